/**
 * What the daemon remembers of a shard's writer, whose thread may hang or be gone: which rows it owes,
 * how its last commit went, and where its failure is recorded.
 */
import type { CommitFailure, LostRange } from '../../machines/shardWriter.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import { type ChannelHandle, native } from '../../src/native/addon.js';
import { type SyntheticEvent, storageErrorEvent } from '../../src/stores/synthetic.js';
import type { FromWriter, ToWriter } from '../messages.js';
import type { ActorThread } from '../thread.js';
import type { WriterSurvey } from './survey.js';

/** Lost ranges remembered of a writer; it knows all of them itself. */
const MAX_LOST_RANGES = 1000;

export class PathWriter {
  /** Why the last commit failed; null when it succeeded. */
  failure: CommitFailure | null = null;
  /** What failed commits have lost since one succeeded, up to MAX_LOST_RANGES. */
  lost: readonly LostRange[] = [];
  /** The shard must not be written any more. */
  readOnly = false;
  /** Its storage error waits for a shard that may hold it (FAIL-11, FAIL-17). */
  pendingError: SyntheticEvent | null = null;
  /** Where it was handed over to last, and its place there. */
  placedError: { readonly in: PathWriter; readonly position: number } | null = null;
  /** Synthetic rows handed over so far, and how many of them are stored; they are stored in order. */
  #handedOver = 0;
  #stored = 0;
  /** What was handed over and is not stored yet, in order; null for what its sender waits for. */
  readonly #unstored: (SyntheticEvent | null)[] = [];
  /** Names of the shard's indexes, as far as it has told. */
  indexes: readonly string[] = [];
  readonly building: SharedArrayBuffer;
  readonly #build: BuildSignal;
  #ended = false;

  constructor(
    readonly shard: number,
    readonly file: string,
    readonly channel: ChannelHandle,
    readonly thread: ActorThread<FromWriter, ToWriter>,
    building = BuildSignal.allocate(),
  ) {
    this.building = building;
    this.#build = new BuildSignal(building);
    void thread.ended.then(() => {
      this.#ended = true;
    });
  }

  /** It builds an index and hears nothing. */
  get isBuilding(): boolean {
    return this.#build.building;
  }

  /** It is needed now (IDX-13). */
  endBuild(): void {
    this.#build.press();
  }

  /** Synthetic rows stored so far. */
  get stored(): number {
    return this.#stored;
  }

  /** Its thread is over: it takes nothing any more. */
  get ended(): boolean {
    return this.#ended;
  }

  get health(): WriterSurvey['health'] {
    if (this.#ended) return 'ended';
    if (this.readOnly) return 'read-only';
    return this.failure === null ? 'good' : 'failing';
  }

  /** Synthetic rows that are not stored anywhere as far as known: its own, and the error it is owed. */
  get owed(): SyntheticEvent[] {
    return [...this.#unstored, this.pendingError].flatMap((event) => event ?? []);
  }

  /**
   * Sends a synthetic row; returns its place among all that this writer got.
   *
   * @param awaited the sender tries again with another writer when this one ends before the commit
   */
  handOver(event: SyntheticEvent, awaited = false): number {
    this.thread.send({ type: 'synthetic', event });
    this.endBuild();
    this.#unstored.push(awaited ? null : event);
    return ++this.#handedOver;
  }

  /** A commit stored so many synthetic rows. */
  committed(synthetic: number): void {
    this.failure = null;
    this.lost = [];
    this.#stored += synthetic;
    this.#unstored.splice(0, synthetic);
  }

  failed(failure: CommitFailure): void {
    this.failure = failure;
    this.lost = [...this.lost, ...failure.lost].slice(0, MAX_LOST_RANGES);
  }
}

/** The lowest shard that can take a daemon-wide record (FAIL-17); null when there is none. */
export function lowestHealthy(
  writers: readonly PathWriter[],
  except: PathWriter | null = null,
): PathWriter | null {
  return writers.find((writer) => writer !== except && writer.health === 'good') ?? null;
}

/** At most one storage error of a shard is on its way until it is stored (FAIL-11). */
export function oweStorageError(
  writers: readonly PathWriter[],
  writer: PathWriter,
  { code, message }: Pick<CommitFailure, 'code' | 'message'>,
): void {
  const { shard, placedError: placed } = writer;
  const isOnItsWay = placed !== null && !placed.in.ended && placed.in.stored < placed.position;
  if (isOnItsWay) return;
  const error = `${code}: ${message}`;
  writer.pendingError ??= storageErrorEvent(native.realtimeNs(), { store: 'event', shard, error });
  placeStorageErrors(writers);
}

/** A storage error goes to another shard, or to its own once that has recovered (ING-72, FAIL-17). */
export function placeStorageErrors(writers: readonly PathWriter[]): void {
  for (const writer of writers) {
    if (writer.pendingError === null) continue;
    const target = lowestHealthy(writers, writer) ?? (writer.health === 'good' ? writer : null);
    if (target === null) continue;
    writer.placedError = { in: target, position: target.handOver(writer.pendingError) };
    writer.pendingError = null;
  }
}
