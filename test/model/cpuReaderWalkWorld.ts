/**
 * A ring whose dangers are reckoned exactly, for walks that nobody planned: which events the producer has
 * overwritten before they were read, and which stand behind damaged bytes. Only these may end in a gap.
 *
 * The drain thread runs meanwhile. What it had read is looked at before each deed, so that an event may be
 * thought in danger that was just read, and none the other way round.
 */
import assert from 'node:assert/strict';
import { native, type ProducerEvent } from '../../src/native/addon.js';
import { DATA_OFFSET, RingWorld, TYPE, WRITE_POS_OFFSET } from './ringWorld.js';

const FIXED_HEADER = 77;
const GARBAGE_BYTES = 64n;

interface LiveEvent {
  readonly sequence: bigint;
  readonly position: bigint;
}

/** Fields of an event header, each with a value that no event can have there. */
export const DAMAGES = [
  { name: 'event_size', offset: 0, bytes: [0xff, 0xff, 0xff, 0xff] },
  { name: 'event_size of nothing', offset: 0, bytes: [0, 0, 0, 0] },
  { name: 'event_size below the header', offset: 0, bytes: [76, 0, 0, 0] },
  { name: 'header_size', offset: 4, bytes: [76, 0, 0, 0] },
  { name: 'header_size beyond the event', offset: 4, bytes: [0xff, 0xff, 0xff, 0xff] },
  { name: 'type_len', offset: 75, bytes: [0xff, 0xff] },
  { name: 'cpu_id', offset: 24, bytes: [0x7f, 0] },
  { name: 'sequence', offset: 16, bytes: [0, 0, 0, 0, 0, 0, 0, 0] },
] as const;

export const CAPACITIES = [65536, 131072, 262144] as const;

export class WalkWorld extends RingWorld {
  #live: LiveEvent[] = [];
  /** Positions in the live ring where no event begins any more. */
  #damages: bigint[] = [];
  /** Generation of the ring that the drain thread is known to read; null while none runs. */
  #reading: bigint | null = null;
  /** What the last drain thread had read when it ended. */
  #ended = 0n;

  constructor(root: string) {
    super(root, { hold: false });
  }

  /** A drain thread has begun with the live ring, or has changed over to a ring of this generation. */
  reads(generation = native.producerStatus(this.producer).generation): void {
    this.#reading = generation;
  }

  /** The drain thread has ended. */
  ended(last: bigint): void {
    this.#reading = null;
    this.#ended = last;
    // Whoever starts next reads from the tail, and comes upon old damage again.
    this.#beware(last);
  }

  /** Last sequence the reader knows to be stored or lost. */
  get read(): bigint {
    return this.#reading === null ? this.#ended : this.lastRead;
  }

  get emitted(): bigint {
    return this.sequence;
  }

  emitSized(count: number, payloadBytes: number): void {
    const event = { type: TYPE, payload: new Uint8Array(payloadBytes).fill(0xc0) };
    this.#emit(Array.from({ length: count }, () => event));
  }

  /** One sequence without an event: larger than half the ring. */
  dropOne(): void {
    const { capacity } = native.producerStatus(this.producer);
    const payload = new Uint8Array(capacity / 2);
    assert.equal(native.producerEmit(this.producer, 0, { type: TYPE, payload }, null), null);
    this.risk(this.sequence);
  }

  /** Twice around the ring at once. */
  overrun(): void {
    const { capacity } = native.producerStatus(this.producer);
    this.emitSized(Math.ceil((2 * capacity) / (FIXED_HEADER + TYPE.length + 400)), 400);
  }

  /** Spoils the header of the event that is `back` events before the newest. */
  damage(back: number, kind: number): void {
    const target = this.#live.at(-1 - back);
    const spoiled = DAMAGES[kind];
    const { tailPos, capacity } = native.producerStatus(this.producer);
    if (target === undefined || spoiled === undefined || target.position < tailPos) return;
    const before = this.read;
    // Known before it is done: the reader may come upon it at once.
    this.#damages.push(target.position);
    for (const [i, byte] of [...spoiled.bytes.entries()].reverse()) {
      const at = (target.position + BigInt(spoiled.offset + i)) % BigInt(capacity);
      this.write(DATA_OFFSET + Number(at), Uint8Array.of(byte));
    }
    this.#beware(before);
  }

  /** Bytes that are no event, published like one. */
  garbage(): void {
    const before = this.read;
    const { writePos, tailPos, capacity } = native.producerStatus(this.producer);
    // The tail is the producer's to move: no room, no garbage.
    if (writePos + GARBAGE_BYTES - tailPos > BigInt(capacity)) return;
    this.#damages.push(writePos);
    this.write(DATA_OFFSET + Number(writePos % BigInt(capacity)), Uint8Array.of(255, 255, 255, 255));
    const position = new Uint8Array(8);
    new DataView(position.buffer).setBigUint64(0, writePos + GARBAGE_BYTES, true);
    this.write(WRITE_POS_OFFSET, position);
    this.#beware(before);
  }

  /** Another ring under the same name, unless it has that capacity already. */
  replaceBy(capacity: number): void {
    const before = this.read;
    const old = native.producerStatus(this.producer);
    if (old.capacity === capacity) return;
    native.producerResize(this.producer, capacity);
    const fresh = native.producerStatus(this.producer);
    this.#forget(old.tailPos);
    const damaged = this.#damages.length > 0;
    // A reader of the old ring reads it to its end; nobody reads one that came and went unseen.
    const unseen = this.#reading !== old.generation;
    const moved = old.writePos - fresh.writePos;
    for (const { sequence, position } of this.#live) {
      if (sequence > before && (damaged || (unseen && position < moved))) this.risk(sequence, sequence);
    }
    this.#live = damaged
      ? []
      : this.#live.flatMap(({ sequence, position }) =>
          position < moved ? [] : [{ sequence, position: position - moved }],
        );
    this.#damages = [];
  }

  #emit(events: readonly ProducerEvent[]): void {
    const before = this.read;
    const hazard = this.#inTheWay();
    let { writePos: position } = native.producerStatus(this.producer);
    let sequence = this.sequence;
    const first = sequence + 1n;
    for (const { type, payload } of events) {
      this.#live.push({ sequence: ++sequence, position });
      position += BigInt(FIXED_HEADER + type.length + payload.length);
    }
    assert.equal(native.producerEmitBatch(this.producer, 0, events, null), events.length);
    assert.equal(this.sequence, sequence);
    if (hazard) this.risk(first);
    const { tailPos } = native.producerStatus(this.producer);
    for (const event of this.#live) {
      if (event.position >= tailPos) break;
      if (event.sequence > before) this.risk(event.sequence, event.sequence);
    }
    this.#forget(tailPos);
  }

  /** What stands behind the first damage and was not read may be passed over with it. */
  #beware(before: bigint): void {
    const first = this.#damages.reduce<bigint | null>(
      (low, at) => (low === null || at < low ? at : low),
      null,
    );
    if (first === null) return;
    for (const { sequence, position } of this.#live) {
      if (sequence > before && position >= first) this.risk(sequence, sequence);
    }
  }

  /** Whether the reader has damage of the live ring before it: it will jump to whatever is its end then. */
  #inTheWay(): boolean {
    const { generation } = native.producerStatus(this.producer);
    const passed = this.#reading === generation ? this.readPos : -1n;
    return this.#damages.some((at) => at >= passed);
  }

  #forget(tail: bigint): void {
    this.#live = this.#live.filter(({ position }) => position >= tail);
    this.#damages = this.#damages.filter((at) => at >= tail);
  }
}
