import type { NativeAddon, ProducerEvent, ProducerHandle, ProducerIdentity } from '../native/addon.js';
import type { EventSink } from './emission.js';
import { errnoOf, KmesdError, reasonOf } from './failure.js';
import type { Report } from './report.js';
import { type RingDirectory, ringPath } from './ringFiles.js';
import { newestTimestamp } from './ringReader.js';

/** The producer half of the addon. */
export type ProducerAddon = Pick<
  NativeAddon,
  | 'producerCreate'
  | 'producerOpen'
  | 'producerEmitBatch'
  | 'producerResize'
  | 'producerStatus'
  | 'producerClose'
>;

/** One ring kmesd writes to. */
export interface Ring extends EventSink {
  readonly cpu: number;
  readonly path: string;
  status(): ReturnType<NativeAddon['producerStatus']>;
}

/** What a resize came to; on failure every ring is back at the size it had, if that was possible (KMES-157). */
export type ResizeResult = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/**
 * The rings of this boot. Existing ones are continued, missing ones created, all brought to one
 * capacity (KMES-102). Rings beyond `cpus` are left untouched: their events stay readable.
 */
export class RingSet {
  readonly #native: ProducerAddon;
  readonly #handles: ProducerHandle[] = [];
  /** Some ring was there already: a kmesd ran before in this boot. */
  readonly continued: boolean;
  #rings: readonly Ring[] = [];
  #next = 0;

  private constructor(native: ProducerAddon, continued: boolean) {
    this.#native = native;
    this.continued = continued;
  }

  /** Opens or creates the rings. Throws KmesdError naming the ring that cannot be used. */
  static open(
    native: ProducerAddon,
    directory: RingDirectory,
    cpus: number,
    capacity: number,
    report: Report,
  ): RingSet {
    const set = new RingSet(native, directory.existing.length > 0);
    try {
      set.#open(directory, cpus, capacity);
    } catch (error) {
      set.close();
      throw error;
    }
    const spare = directory.existing.length - cpus;
    if (spare > 0) report.warn(`${spare} ring(s) of this boot beyond --cpus ${cpus} are left as they are`);
    return set;
  }

  get rings(): readonly Ring[] {
    return this.#rings;
  }

  /** Data bytes of a ring. */
  get capacity(): number {
    return this.first.capacity;
  }

  get first(): Ring {
    const [ring] = this.#rings;
    if (ring === undefined) throw new KmesdError('no ring is open');
    return ring;
  }

  /**
   * The ring for a new emitter: round robin, kept for the emitter's life so that its events stay in
   * the order it sent them.
   */
  assign(): Ring {
    const ring = this.#rings[this.#next % this.#rings.length] ?? this.first;
    this.#next += 1;
    return ring;
  }

  /** Timestamp of the newest event in any of them, ns; null when they hold none. Reads them through. */
  newestTimestamp(): bigint | null {
    let newest: bigint | null = null;
    for (const { path } of this.#rings) {
      const own = newestTimestamp(path);
      if (own !== null && (newest === null || own > newest)) newest = own;
    }
    return newest;
  }

  /** Swaps every ring of another size for one of `capacity` bytes, survivors kept (KMES-142). */
  resize(capacity: number): ResizeResult {
    const swapped: { handle: ProducerHandle; before: number }[] = [];
    for (const handle of this.#handles) {
      const before = this.#native.producerStatus(handle).capacity;
      if (before === capacity) continue;
      try {
        this.#native.producerResize(handle, capacity);
        swapped.push({ handle, before });
      } catch (error) {
        for (const done of swapped) this.#restore(done.handle, done.before);
        return { ok: false, reason: reasonOf(error) };
      }
    }
    return { ok: true };
  }

  close(): void {
    for (const handle of this.#handles.splice(0)) this.#native.producerClose(handle);
  }

  #open(directory: RingDirectory, cpus: number, capacity: number): void {
    const rings: Ring[] = [];
    for (let cpu = 0; cpu < cpus; cpu += 1) {
      const path = ringPath(directory.path, cpu);
      const handle = directory.existing.includes(cpu)
        ? this.#reopen(path)
        : this.#create(path, cpu, capacity);
      this.#handles.push(handle);
      rings.push(this.#ring(handle, cpu, path));
    }
    this.#rings = rings;
  }

  #reopen(path: string): ProducerHandle {
    try {
      return this.#native.producerOpen(path);
    } catch (error) {
      // A new ring in its place would hand out sequence numbers of this boot a second time.
      const hint =
        errnoOf(error) === 'EINVAL' ? '; remove all rings and change the boot ID to start anew' : '';
      throw new KmesdError(`${path}: cannot be continued: ${reasonOf(error)}${hint}`);
    }
  }

  #create(path: string, cpu: number, capacity: number): ProducerHandle {
    try {
      return this.#native.producerCreate(path, cpu, capacity);
    } catch (error) {
      throw new KmesdError(`${path}: cannot be created: ${reasonOf(error)}`);
    }
  }

  #ring(handle: ProducerHandle, cpu: number, path: string): Ring {
    const native = this.#native;
    return {
      cpu,
      path,
      get capacity() {
        return native.producerStatus(handle).capacity;
      },
      status: () => native.producerStatus(handle),
      write: (origin: number, events: readonly ProducerEvent[], identity: ProducerIdentity | null) =>
        native.producerEmitBatch(handle, origin, events, identity),
    };
  }

  #restore(handle: ProducerHandle, capacity: number): void {
    try {
      this.#native.producerResize(handle, capacity);
    } catch {
      // The ring stays larger than its siblings; the caller reports the failed resize as a whole.
    }
  }
}
