/** `evctl emit TYPE JSON`: puts events into the rings of the embedded KMES. */
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { MAX_BATCH } from '../wire/producers.js';
import { type CommandContext, CommandFailure } from './context.js';
import { JsonInputError, payloadFromJson } from './jsonInput.js';
import { UsageError } from './options.js';

/** Payload bytes of one batch, well below what kmesd takes in one request. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;

/** Longest input line; an event holds 64 KiB, its JSON text may be a few times that. */
const MAX_LINE = 1024 * 1024;

/** The msgpack byte of nil. */
const NIL = 0xc0;

const FIRST_BACKOFF_MS = 5;
const MAX_BACKOFF_MS = 1000;
/** Refusals in a row before giving up, about half a minute. */
const MAX_FAILURES = 40;

/** The part of the emit client this command needs. */
export interface Emitter {
  /**
   * Emits the events up to the first refused one (KMES-79): `emitted` got through, `error` says why the
   * next did not, null when all did.
   */
  emitBatch(events: readonly EmitEntry[]): Promise<EmitOutcome>;
  close(): void | Promise<void>;
}
export interface EmitEntry {
  readonly type: string;
  readonly payload: Uint8Array;
}
export interface EmitOutcome {
  readonly emitted: number;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** An event, and how an error names it. */
interface Item extends EmitEntry {
  readonly where: string;
}

/**
 * @param connect opens the emit socket `DIR/emit.sock`
 * @throws {CommandFailure | UsageError} what to tell the user
 */
export async function runEmit(
  context: CommandContext,
  connect: (path: string) => Promise<Emitter>,
): Promise<void> {
  const [type, json, ...others] = context.options.positionals;
  if (type === undefined || json === undefined || others.length > 0)
    throw new UsageError('emit takes a TYPE and one JSON value (in quotes), or -');
  if (type === '') throw new UsageError('TYPE must not be empty');
  // Judged before connecting: a typing mistake should not need a running kmesd to be found.
  const checked = unsearchableTold(context.warn);
  const read = (text: string, where: string): Item => checked(item(type, text, where));
  const single = json === '-' ? null : read(json, 'JSON');
  const emitter = await connect(join(context.options.get('kmes') ?? '', 'emit.sock'));
  try {
    if (single !== null) await emitAll(emitter, [single], context.signal);
    else await emitLines(emitter, read, context.stdin, context.signal);
  } finally {
    await emitter.close();
  }
}

function item(type: string, json: string, where: string): Item {
  try {
    return { type, payload: payloadFromJson(json), where };
  } catch (error) {
    if (error instanceof JsonInputError) throw new CommandFailure(`${where}: ${error.message}`);
    throw error;
  }
}

/** Tells of the first payload that queries will neither find nor show: only a map has fields (QL-44). */
function unsearchableTold(warn: CommandContext['warn']): (entry: Item) => Item {
  let isTold = false;
  return (entry) => {
    if (isTold || hasFields(entry.payload)) return entry;
    isTold = true;
    warn(
      `warning: ${entry.where}: the payload is no JSON object; it is stored, but queries cannot search or show it`,
    );
    return entry;
  };
}

/** A map, or nil: with nothing in it, nothing is missed. */
function hasFields([head = NIL]: Uint8Array): boolean {
  return head === NIL || (head & 0xf0) === 0x80 || head === 0xde || head === 0xdf;
}

/**
 * Emits one event per non-blank line, in batches of what has arrived. Lines before a bad one are
 * emitted, the ones after it are not.
 */
async function emitLines(
  emitter: Emitter,
  read: (line: string, where: string) => Item,
  input: Readable,
  signal: AbortSignal,
): Promise<void> {
  let batch: Item[] = [];
  let number = 0;
  for await (const lines of lineGroups(input, signal)) {
    for (const line of lines) {
      number++;
      if (line.trim() === '') continue;
      try {
        batch.push(read(line, `standard input, line ${number}`));
      } catch (error) {
        await emitAll(emitter, batch, signal);
        throw error;
      }
      if (batch.length === MAX_BATCH) {
        await emitAll(emitter, batch, signal);
        batch = [];
      }
    }
    // Nothing more is there right now: do not hold events back for a full batch.
    await emitAll(emitter, batch, signal);
    batch = [];
  }
}

/** The lines of each chunk of input that arrives, the unfinished last one kept for the next. */
async function* lineGroups(input: Readable, signal: AbortSignal): AsyncGenerator<string[], void, undefined> {
  const abort = () => input.destroy(signal.reason instanceof Error ? signal.reason : undefined);
  signal.addEventListener('abort', abort, { once: true });
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_LINE)
        throw new CommandFailure(`standard input: line longer than ${MAX_LINE} characters`);
      if (lines.length > 0) yield lines;
    }
    signal.throwIfAborted();
    rest += decoder.decode();
    if (rest !== '') yield [rest];
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * Emits all events in order. A batch is admitted as a whole or not at all, so on EAGAIN (the rate
 * limit) the next try is half as big and comes after a pause; success makes both recover.
 */
async function emitAll(emitter: Emitter, items: readonly Item[], signal: AbortSignal): Promise<void> {
  let size = MAX_BATCH;
  let backoff = FIRST_BACKOFF_MS;
  let failures = 0;
  for (let rest = items; rest.length > 0; ) {
    signal.throwIfAborted();
    const { emitted, error } = await emitter.emitBatch(batchOf(rest, size));
    rest = rest.slice(emitted);
    if (error !== null && error.code !== 'EAGAIN') throw refused(rest[0], error);
    if (emitted > 0) {
      size = Math.min(2 * size, MAX_BATCH);
      backoff = FIRST_BACKOFF_MS;
      failures = 0;
      continue;
    }
    if (++failures > MAX_FAILURES)
      throw refused(rest[0], { code: 'EAGAIN', message: 'the rate limit lets nothing through' });
    size = Math.max(1, Math.trunc(Math.min(size, rest.length) / 2));
    await delay(backoff, undefined, { signal });
    backoff = Math.min(2 * backoff, MAX_BACKOFF_MS);
  }
}

/** The first events, at most `count` and as many as fit into one request; at least one. */
function batchOf(items: readonly Item[], count: number): readonly Item[] {
  let bytes = 0;
  const end = items.findIndex((entry, index) => {
    bytes += entry.payload.length + entry.type.length;
    return index === count || (index > 0 && bytes > MAX_BATCH_BYTES);
  });
  return end === -1 ? items : items.slice(0, end);
}

function refused(
  entry: Item | undefined,
  error: { readonly code: string; readonly message: string },
): CommandFailure {
  const text = error.message.includes(error.code) ? error.message : `${error.message} (${error.code})`;
  return new CommandFailure(`${entry?.where ?? 'event'}: not emitted: ${text}`);
}
