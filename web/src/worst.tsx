// The positions where a model is farthest from its reference.
import { number, percent } from "./numbers";
import { Folded } from "./parts";
import type { Guess, Worst } from "./records";

const visible = (token: string) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥");

function Guesses(props: { whose: string; guesses: Guess[]; next: string }) {
  return (
    <div>
      <h4>{props.whose}</h4>
      <ol class="guesses">
        {props.guesses.map((guess) => (
          <li class={guess.token === props.next ? "right" : undefined}>
            <code class="token">{visible(guess.token)}</code>
            <span class="track">
              <span class="bar" style={{ width: `${100 * guess.p}%` }} />
            </span>
            <span class="share">{percent(guess.p)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function Examples(props: { worst: Worst[] }) {
  return (
    <>
      <p>
        The {props.worst.length} places of the text where the model's predictions are farthest from the reference's: the
        text before, the token that followed, and both models' three most likely tokens.
      </p>
      <ol class="examples">
        {props.worst.map((w) => (
          <li class="example">
            <p class="muted">
              {w.text}, KL divergence {number(w.kld, 3)} nats
            </p>
            <blockquote>
              …{w.context}
              <mark title="the token that followed">{visible(w.next)}</mark>
            </blockquote>
            <div class="sides">
              <Guesses whose="Reference" guesses={w.reference ?? []} next={w.next} />
              <Guesses whose="Model" guesses={w.model ?? []} next={w.next} />
            </div>
          </li>
        ))}
      </ol>
      <p class="muted">Marked: the token that followed. Bold: a guess that equals it. ↵ is a new line.</p>
    </>
  );
}

/** Of each model with examples; of several, folded. */
export function WorstSection(props: { models: { name: string; worst?: Worst[] }[] }) {
  const shown = props.models.flatMap(({ name, worst }) => (worst && worst.length > 0 ? [{ name, worst }] : []));
  if (shown.length === 0) return null;
  return (
    <section class="worst">
      <h2>What got worse</h2>
      {props.models.length === 1 ? (
        <Examples worst={shown[0].worst} />
      ) : (
        shown.map(({ name, worst }) => (
          <Folded summary={`${name}: its ${worst.length} worst places`}>
            <Examples worst={worst} />
          </Folded>
        ))
      )}
    </section>
  );
}
