// The positions where a model is farthest from its reference.
import { number, percent } from "./numbers";
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

export function WorstSection(props: { worst: Worst[]; of: string }) {
  if (props.worst.length === 0) return null;
  return (
    <section class="worst">
      <h2>What got worse{props.of && `: ${props.of}`}</h2>
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
    </section>
  );
}
