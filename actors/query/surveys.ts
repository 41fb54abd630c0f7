/** Answers surveys in a query worker, step by step (src/query/survey.ts). */
import type { FieldPath } from '../../src/access/fieldLists.js';
import { nameTest } from '../../src/query/nameMatch.js';
import { type Found, merged, type Survey } from '../../src/query/survey.js';
import type { ReadConnection } from '../../src/stores/readConnection.js';
import { EventNames } from './eventNames.js';
import type { Learned } from './learned.js';
import type { StageContext } from './stages/context.js';

/** Names looked up between two turns. */
const STEP_NAMES = 200;

/** Rows taken over between two turns. */
const STEP_ROWS = 2000;

/** Labels of a series as they are stored, cut into keys (QL-43). */
const labelKeys = (labels: string): FieldPath[] =>
  labels === '' ? [] : labels.split(',').map((pair) => [pair.slice(0, pair.indexOf('='))]);

export class Surveys {
  readonly #events: EventNames;

  /** @param tell hears what other workers need not search for again */
  constructor(tell: (learned: Learned) => void) {
    this.#events = new EventNames(tell);
  }

  /** Another worker found this out. */
  adopt(learned: Learned): void {
    this.#events.adopt(learned);
  }

  /** Each yield is a turn for others; `context` is that of a job's stages. */
  *run(survey: Survey, context: StageContext): Generator<void, Found, void> {
    const answers: (readonly [string, readonly FieldPath[]])[] = [];
    const connections = context.connections(survey.store);
    if (survey.store === 'events') this.#events.retain(connections);
    for (const connection of connections) {
      // As arguments of a call they could be too many.
      for (const found of yield* this.#ask(survey, connection, context)) answers.push(found);
    }
    return [...merged(answers)];
  }

  *#ask(survey: Survey, connection: ReadConnection, context: StageContext): Generator<void, Found, void> {
    const step: StageContext['execute'] = (call) => context.execute(call);
    switch (survey.kind) {
      case 'names': {
        const names =
          survey.store === 'events'
            ? yield* this.#events.types(connection, survey, step)
            : yield* origins(connection, step);
        const passes = nameTest(survey.pattern);
        return [...names].filter(passes).map((name) => [name, []]);
      }
      case 'fields': {
        const found = yield* this.#events.fields(connection, survey.names, survey.range, step);
        return [...found].map(([name, fields]) => [name, [...fields]]);
      }
      case 'select':
        return yield* selected(survey, connection, context);
    }
  }
}

/** From one origin to the next by its index, however many records each has. */
function* origins(
  connection: ReadConnection,
  step: StageContext['execute'],
): Generator<void, string[], void> {
  const next = connection.prepare('SELECT min(origin) FROM logs WHERE origin > ?').pluck();
  const found: string[] = [];
  const empty = connection.prepare("SELECT 1 FROM logs WHERE origin = '' LIMIT 1").pluck();
  if (step(() => empty.get()) !== undefined) found.push('');
  for (let last = ''; ; ) {
    const name = step(() => next.get(last) as string | null);
    if (name === null) return found;
    found.push(name);
    last = name;
    if (found.length % STEP_NAMES === 0) yield;
  }
}

function* selected(
  { statement }: Extract<Survey, { kind: 'select' }>,
  connection: ReadConnection,
  context: StageContext,
): Generator<void, Found, void> {
  const rows = connection
    .prepare(statement.sql)
    .raw()
    .iterate(...context.bind(statement.params)) as IterableIterator<[string, string?]>;
  const found: [string, readonly FieldPath[]][] = [];
  try {
    for (;;) {
      const { value, done } = context.execute(() => rows.next());
      if (done === true) return found;
      const [name, labels] = value;
      found.push([name, labels === undefined ? [] : labelKeys(labels)]);
      if (found.length % STEP_ROWS === 0) yield;
    }
  } finally {
    rows.return?.();
  }
}
