/**
 * One boot of the machine under test: kmesd with its rings, the load generator writing to them beside
 * it, senders emitting through it, and the ledger of what must come out of all this.
 */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseGuid } from '../../src/host/guid.js';
import { ringFileName } from '../../src/host/kmes.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import { native } from '../../src/native/addon.js';
import { RingLoad } from '../fixtures/ringload.js';
import type { FaultList } from './faults.js';
import { KmesdProcess } from './kmesdProcess.js';
import { type GapRecord, Ledger } from './ledger.js';
import { loadType } from './payload.js';
import { Sender } from './senders.js';

const SENDERS = 2;
const LOAD_PAYLOAD = 64;
const FLOOD_PAYLOAD = 2000;
const FLOOD_RATE = 12_000;
/** Smallest ring space of an event of the load: header, type and payload. */
const LOAD_EVENT_BYTES = 77 + 8 + LOAD_PAYLOAD;

export interface BootOptions {
  readonly id: string;
  readonly kmes: string;
  readonly events: string;
  readonly rings: number;
  readonly capacity: number;
  readonly faults: FaultList;
  readonly before: ReadonlyMap<string, number>;
}

/** A sender's last stored event, to know where its missing ones would have to be. */
interface Place {
  readonly cpu: number;
  readonly sequence: number;
}

export class Boot {
  readonly ledger: Ledger;
  kmesdKills = 0;
  readonly #options: BootOptions;
  #kmesd: KmesdProcess | null = null;
  #restarting: Promise<void> = Promise.resolve();
  #load: RingLoad | null = null;
  #loadRate = 0;
  #loadRuns = 0;
  readonly #senders: Sender[];
  readonly #lastSent = new Map<number, Place>();

  private constructor(options: BootOptions) {
    this.#options = options;
    const { events, id, rings, faults, before, kmes } = options;
    this.ledger = new Ledger(events, Buffer.from(parseGuid(id)), rings, faults, before);
    this.#senders = Array.from({ length: SENDERS }, (_, n) => new Sender(n, join(kmes, 'emit.sock')));
  }

  /** kmesd discards the rings of the boot before and makes new ones. */
  static async begin(options: BootOptions): Promise<Boot> {
    const boot = new Boot(options);
    await boot.#startKmesd();
    return boot;
  }

  get id(): string {
    return this.#options.id;
  }

  get guid(): Uint8Array {
    return this.ledger.boot;
  }

  // Load

  /** Keeps load of this rate on the rings until `quiesce`. */
  async load(rate: number): Promise<void> {
    for (const sender of this.#senders) sender.start();
    if (this.#load !== null && this.#loadRate === rate) return;
    await this.#load?.kill();
    this.#loadRate = rate;
    this.#load = this.#start({ events: 0, ratePerSecond: rate, payload: LOAD_PAYLOAD });
  }

  /** Replaces the load by one of big events. */
  flood(): void {
    const before = this.#load;
    this.#loadRate = -1;
    this.#load = this.#start({ events: 0, ratePerSecond: FLOOD_RATE, payload: FLOOD_PAYLOAD });
    before?.kill().catch(() => undefined);
  }

  /** Writes as much as overwrites every ring to its last byte, and then some. */
  async overrun(): Promise<void> {
    const { rings, capacity } = this.#options;
    const events = Math.ceil((rings * capacity * 1.3) / LOAD_EVENT_BYTES);
    await this.#start({ events, ratePerSecond: 0, payload: LOAD_PAYLOAD }).done;
  }

  /** Ends all load, with kmesd running and nothing on its way, and one last event on every ring. */
  async quiesce(): Promise<void> {
    await this.#restarting;
    for (const sender of this.#senders) await sender.stop();
    await this.#load?.kill();
    this.#load = null;
    // A producer killed between counting and publishing leaves numbers that only a later event reveals.
    for (let cpu = 0; cpu < this.#options.rings; cpu++) {
      const producer = native.producerOpen(this.#ringPath(cpu));
      try {
        native.producerEmit(producer, 0, { type: Buffer.from('soak.mark'), payload: Buffer.of(0xc0) }, null);
      } finally {
        native.producerClose(producer);
      }
    }
  }

  // kmesd

  /** kill -9, and a new kmesd after `downMs`. */
  killKmesd(downMs: number): void {
    const killed = this.#kmesd;
    if (killed === null) return;
    this.#kmesd = null;
    this.kmesdKills++;
    this.#restarting = killed
      .kill()
      .then(() => pause(downMs))
      .then(() => this.#startKmesd())
      .catch((error: unknown) => this.#options.faults.add('process', `kmesd: ${String(error)}`));
  }

  // What is in the rings; only while all is quiet.

  /** Last sequence emitted, per CPU. */
  emitted(): number[] {
    return Array.from({ length: this.#options.rings }, (_, cpu) => {
      const producer = native.producerOpen(this.#ringPath(cpu));
      try {
        return Number(native.producerStatus(producer).sequence);
      } finally {
        native.producerClose(producer);
      }
    });
  }

  /** The gap records that the next run must write: what is neither stored nor in a ring any more. */
  expectedGaps(): Omit<GapRecord, 'cause'>[] {
    const emitted = this.emitted();
    return emitted.flatMap((last, cpu) => {
      const held = new Set<number>();
      for (const { sequence } of readRing(this.#ringPath(cpu))) held.add(Number(sequence));
      const runs: { cpu: number; first: number; last: number }[] = [];
      for (const [first, end] of this.ledger.cpus[cpu]?.missing(last) ?? []) {
        for (let sequence = first; sequence <= end; sequence++) {
          if (held.has(sequence)) continue;
          const run = runs.at(-1);
          if (run !== undefined && run.last === sequence - 1) run.last = sequence;
          else runs.push({ cpu, first: sequence, last: sequence });
        }
      }
      return runs;
    });
  }

  /** All is quiet and stored: every sequence is accounted for once, and payloads are their sequences' own. */
  expectComplete(): void {
    const emitted = this.emitted();
    for (const ledger of this.ledger.cpus) {
      const last = emitted[ledger.cpu] ?? 0;
      ledger.expectComplete(last, 'neither stored nor in a gap record');
      ledger.expectNothingBeyond(last);
      ledger.comparePayloads(last);
    }
    this.#expectAcknowledged();
  }

  /** Stops what runs, at once. */
  async end(): Promise<void> {
    await this.#restarting;
    // Senders end with kmesd there or not, as soon as what they wait for has failed.
    const stopped = this.#senders.map((sender) => sender.stop());
    await this.#load?.kill();
    this.#load = null;
    await this.#kmesd?.kill();
    this.#kmesd = null;
    await Promise.all(stopped);
  }

  /** An acknowledged event that is not stored must lie in a gap, at its place in the sender's order. */
  #expectAcknowledged(): void {
    const sent = this.ledger.takeSent();
    for (const sender of this.#senders) {
      const places = new Map<number, Place>();
      for (const { sender: id, ordinal, cpu, sequence } of sent) {
        if (id !== sender.id) continue;
        if (places.has(ordinal))
          this.#options.faults.add('duplicated', `event ${ordinal} of sender ${id} is stored twice`);
        places.set(ordinal, { cpu, sequence });
      }
      let missing = 0;
      for (const ordinal of sender.takeAcknowledged()) {
        const place = places.get(ordinal);
        if (place === undefined) {
          missing++;
          continue;
        }
        this.#expectInGap(sender.id, missing, place);
        missing = 0;
        this.#lastSent.set(sender.id, place);
      }
      this.#expectInGap(sender.id, missing, null);
    }
  }

  /** `missing` acknowledged events before `next`, or before the end, were not found. */
  #expectInGap(sender: number, missing: number, next: Place | null): void {
    if (missing === 0) return;
    const previous = this.#lastSent.get(sender);
    let room = 0;
    for (const ledger of this.ledger.cpus) {
      // A new connection may have moved the sender from one ring to another in between.
      const from = previous?.cpu === ledger.cpu ? previous.sequence : 0;
      const to = next?.cpu === ledger.cpu ? next.sequence : ledger.highest();
      for (let sequence = from + 1; sequence <= to; sequence++) if (ledger.isGapped(sequence)) room++;
    }
    if (room < missing)
      this.#options.faults.add(
        'lost',
        `${missing} acknowledged events of sender ${sender} are not stored, and no gap is where they were`,
        missing,
      );
  }

  #start(load: { events: number; ratePerSecond: number; payload: number }): RingLoad {
    return new RingLoad(this.#options.kmes, {
      ...load,
      cpus: this.#options.rings,
      type: loadType(++this.#loadRuns),
      ringTypes: true,
    });
  }

  async #startKmesd(): Promise<void> {
    const { kmes, rings, capacity, id } = this.#options;
    this.#kmesd = await KmesdProcess.start({ directory: kmes, boot: id, rings, capacity });
  }

  #ringPath(cpu: number): string {
    return join(this.#options.kmes, ringFileName(cpu));
  }
}
