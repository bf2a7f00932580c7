// Multiple choice, of eval and compare.
import { Intervals } from "./intervals";
import { between, integer, isNumber, NONE, percent, signed } from "./numbers";
import { type Cell, Table } from "./parts";
import type { TaskRow } from "./records";

const points = (v: number) => signed(100 * v, 2);

export function TaskSection({ tasks }: { tasks: TaskRow[] }) {
  if (tasks.length === 0) return null;
  const paired = tasks.some((task) => isNumber(task.acc_less_first));
  const first = tasks[0].model;
  const flips = (task: TaskRow): Cell[] =>
    isNumber(task.acc_less_first)
      ? [
          percent(task.right_to_wrong! + task.wrong_to_right!),
          percent(task.right_to_wrong),
          percent(task.wrong_to_right),
          `${points(task.acc_less_first)} (${between(task.acc_less_first_interval, points)})`,
        ]
      : [NONE, NONE, NONE, NONE];
  return (
    <section id="tasks">
      <h2>Multiple choice</h2>
      <Intervals
        title="Share of questions answered right, with 95 % intervals"
        xTitle="share of questions answered right"
        rows={tasks.map((task) => ({
          group: task.name,
          name: task.model,
          value: task.acc,
          low: task.acc_interval?.[0] ?? task.acc,
          high: task.acc_interval?.[1] ?? task.acc,
        }))}
        show={(v) => percent(v, 0)}
        domain={[0, 1]}
        caption="The choice with the highest likelihood counts as the answer. Lines: 95 % intervals (Wilson)."
      />
      <Table
        caption="Answers"
        headings={[
          "Task",
          "Model",
          "Questions",
          "Right (95 %)",
          "Right by bytes (95 %)",
          ...(paired
            ? ["Answers that flipped", "Right to wrong", "Wrong to right", `Points more than ${first} (95 %)`]
            : []),
        ]}
        rows={tasks.map((task) => [
          task.name,
          { text: task.model },
          integer(task.total),
          `${percent(task.acc)} (${between(task.acc_interval, percent)})`,
          `${percent(task.acc_norm)} (${between(task.acc_norm_interval, percent)})`,
          ...(paired ? flips(task) : []),
        ])}
      />
      {paired && (
        <p class="muted">
          Flips: questions that {first} answered right and this model does not, and the other way round. They count even
          where the accuracy stays the same. Differences are taken question by question.
        </p>
      )}
    </section>
  );
}
