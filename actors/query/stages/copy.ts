/** The stage `copy`: rows of a store's databases into a table of the scratch database (QX-24). */
import { chooseSql } from '../../../src/indexes/choice.js';
import type { CopyHandle, CopyOptions } from '../../../src/native/addon.js';
import type { CopyStage } from '../../../src/query/job.js';
import type { MemoryShare } from '../memory.js';
import { memoryExceeded } from '../scratch.js';
import type { StageContext } from './context.js';

/** Rows of one turn of one database at most, and bytes inserted after which it ends. */
const SLICE_ROWS = 5000;
const SLICE_BYTES = 64 * 1024;

/** A turn ends after this time, also where the search for a row goes on. */
const SLICE_MS = 5;

/** What a table of groups may hold: as much as is good, or, when memory is short, as little as will do. */
const GROUP_BYTES = [4 * 1024 * 1024, 256 * 1024] as const;

/** Of the memory for queries, what several tables of one may have. */
const TABLES_SHARE = 1 / 8;

/** A database that is being read. */
interface Copying {
  readonly handle: CopyHandle;
  /** What the next step may insert. */
  room: number;
  done: boolean;
}

/** Several databases are read at once where there are processors for it (QX-23). */
export function* runCopy(stage: CopyStage, context: StageContext): Generator<void, void, void> {
  const { memory, scratch, native } = context;
  context.execute(() => scratch.exec(stage.into.create));
  const params = context.bind(stage.from.params);
  const into = { slot: scratch.slot, sql: stage.into.insert };
  const waiting = [...context.connections(stage.from.store)];
  const width = Math.min(native.copyWidth(), waiting.length);
  const tables = stage.group === undefined ? null : reserveTables(memory, width);
  const group =
    stage.group === undefined || tables === null ? null : { ...stage.group, maxBytes: tables.bytes };
  let copies: Copying[] = [];
  try {
    for (;;) {
      while (copies.length < (tables?.count ?? width)) {
        const next = waiting.shift();
        if (next === undefined) break;
        const sql = yield* chooseSql(next, stage.from, context);
        copies.push(open(context, { from: { slot: next.slot, sql, params }, into, group }));
      }
      if (copies.length === 0) break;
      turn(context, copies);
      for (const { handle } of copies.filter(({ done }) => done)) native.copyClose(handle);
      copies = copies.filter(({ done }) => !done);
      yield;
    }
  } finally {
    for (const { handle } of copies) native.copyClose(handle);
  }
  if (tables !== null) memory.give(tables.count * tables.bytes);
}

function open({ native, execute }: StageContext, options: CopyOptions): Copying {
  return { handle: execute(() => native.copyOpen(options)), room: SLICE_BYTES, done: false };
}

/** Reads a slice of each, then inserts what some of them have. */
function turn(context: StageContext, copies: readonly Copying[]): void {
  const { native, execute } = context;
  const handles = copies.map(({ handle }) => handle);
  // A single one reads while it steps.
  const isUp =
    copies.length === 1
      ? [true]
      : execute(() => native.copyRead(handles, SLICE_ROWS * copies.length, SLICE_MS));
  for (const copy of copies.filter((_, index) => isUp[index])) step(context, copy);
}

function step({ native, scratch, execute }: StageContext, copy: Copying): void {
  scratch.makeRoom(copy.room);
  const slice = execute(() => native.copyStep(copy.handle, SLICE_ROWS, copy.room, SLICE_MS));
  copy.done = slice.done;
  // What was searched for until the time was over needs the room it was to have.
  if (slice.rows === 0 && slice.waitingBytes === 0) return;
  // What is larger by itself waits for its room.
  copy.room = Math.max(SLICE_BYTES, slice.waitingBytes);
}

/** One table in any case, and more of a good size while most of the memory is left to the groups. */
function reserveTables(
  memory: MemoryShare,
  wanted: number,
): { readonly count: number; readonly bytes: number } {
  for (const bytes of GROUP_BYTES) {
    if (!memory.reserve(bytes)) continue;
    let count = 1;
    while (count < wanted && (count + 1) * bytes <= memory.limit * TABLES_SHARE && memory.reserve(bytes))
      count++;
    return { count, bytes };
  }
  throw memoryExceeded(memory.limit);
}
