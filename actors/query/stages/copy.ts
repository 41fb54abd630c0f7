/** The stage `copy`: rows of a store's databases into a table of the scratch database (QX-24). */
import type { CopyOptions } from '../../../src/native/addon.js';
import type { CopyStage } from '../../../src/query/job.js';
import { memoryExceeded } from '../scratch.js';
import type { StageContext } from './context.js';

/** Rows of one turn at most, and bytes inserted after which it ends. */
const SLICE_ROWS = 5000;
const SLICE_BYTES = 64 * 1024;

/** What the table of groups may hold: as much as is good, or, when memory is short, as little as will do. */
const GROUP_BYTES = [4 * 1024 * 1024, 256 * 1024] as const;

export function* runCopy(stage: CopyStage, context: StageContext): Generator<void, void, void> {
  const { memory, scratch } = context;
  context.execute(() => scratch.exec(stage.into.create));
  const group = stage.group === undefined ? null : { ...stage.group, maxBytes: reserveGroups(context) };
  const params = context.bind(stage.from.params);
  for (const { slot } of context.connections(stage.from.store)) {
    yield* copyOne(context, {
      from: { slot, sql: stage.from.sql, params },
      into: { slot: scratch.slot, sql: stage.into.insert },
      group,
    });
  }
  if (group !== null) memory.give(group.maxBytes);
}

function* copyOne(
  { native, scratch, execute }: StageContext,
  options: CopyOptions,
): Generator<void, void, void> {
  const copy = execute(() => native.copyOpen(options));
  try {
    for (let room = SLICE_BYTES, done = false; !done; yield) {
      scratch.makeRoom(room);
      const slice = execute(() => native.copyStep(copy, SLICE_ROWS, room));
      done = slice.done;
      // What is larger by itself waits for its room.
      room = Math.max(SLICE_BYTES, slice.waitingBytes);
    }
  } finally {
    native.copyClose(copy);
  }
}

function reserveGroups({ memory }: StageContext): number {
  for (const bytes of GROUP_BYTES) {
    if (memory.reserve(bytes)) return bytes;
  }
  throw memoryExceeded(memory.limit);
}
