/** The daemon's real runtime under a test's control: each phase and step waits until the test lets it go, and fails when the test says so. */
import { type DaemonOptions, DaemonRuntime } from '../../actors/daemon/runtime.js';
import type { Gates } from './walk.js';

/** How a phase or step fails for no reason of the world: instead of its work, or after it. */
export type Fault = 'instead' | 'after';

export class PacedRuntime extends DaemonRuntime {
  readonly #gates: Gates;
  /** The recovery step under way; the phases it consists of are not paced again. */
  #step: string | null = null;
  #recovery = 0;
  /** By state: the next time it is entered it fails. */
  readonly faults = new Map<string, Fault>();
  /** States whose end waits, too, behind the gate `STATE done`. */
  readonly lingering = new Set<string>();
  /** Phases and steps that have come to an end, heard by the machine or not, each as often as it did. */
  readonly ended: string[] = [];

  constructor(options: DaemonOptions, gates: Gates) {
    super(options);
    this.#gates = gates;
  }

  override configure(): Promise<void> {
    return this.#paced('configuring', () => super.configure());
  }
  override openStores(): Promise<void> {
    return this.#paced('openingStores', () => super.openStores(), 'reopeningStores');
  }
  override resolveBoot(): Promise<void> {
    return this.#paced('resolvingBoot', () => super.resolveBoot(), 'resolvingAgain');
  }
  override attachKmes(): Promise<void> {
    return this.#step === null ? this.#paced('attachingKmes', () => super.attachKmes()) : super.attachKmes();
  }
  override bindSockets(): Promise<void> {
    return this.#paced('bindingSockets', () => super.bindSockets());
  }
  override async startActors(): Promise<void> {
    const recovery = this.#recovery;
    await this.#paced('startingActors', () => super.startActors(), 'restartingActors');
    // A state that was left for the next recovery ends in the midst of that.
    if (recovery === this.#recovery) this.#step = null;
  }
  override announceReady(): Promise<void> {
    return this.#paced('announcingReady', () => super.announceReady());
  }
  override reload(announce: boolean): Promise<void> {
    return this.#paced(announce ? 'announced' : 'quietly', () => super.reload(announce));
  }
  override closePath(): Promise<void> {
    this.#recovery++;
    this.#step = 'closingPath';
    return this.#paced('closingPath', () => super.closePath());
  }
  override reattachKmes(): Promise<void> {
    return this.#paced('reattachingKmes', () => super.reattachKmes());
  }
  override stopAccepting(): Promise<void> {
    return this.#paced('closingSockets', () => super.stopAccepting());
  }
  override drainRings(): Promise<void> {
    return this.#paced('drainingRings', () => super.drainRings());
  }
  override commitAll(): Promise<void> {
    return this.#paced('committing', () => super.commitAll());
  }
  override recordShutdown(): Promise<void> {
    return this.#paced('recordingShutdown', () => super.recordShutdown());
  }
  override closeStores(): Promise<void> {
    return this.#paced('closingStores', () => super.closeStores());
  }
  override release(): Promise<void> {
    return this.#step === 'undoing' ? super.release() : this.#paced('releasingRings', () => super.release());
  }
  override undo(): Promise<void> {
    return this.#paced('undoing', () => {
      this.#step = 'undoing';
      return super.undo();
    });
  }

  async #paced(phase: string, work: () => Promise<void>, duringRecovery = phase): Promise<void> {
    const state = this.#step === null ? phase : duringRecovery;
    try {
      await this.#gates.hold(state);
      const fault = this.faults.get(state);
      this.faults.delete(state);
      if (fault === 'instead') throw new Error('injected');
      await work();
      if (this.lingering.delete(state)) await this.#gates.hold(`${state} done`);
      if (fault === 'after') throw new Error('injected');
    } finally {
      this.ended.push(state);
    }
  }
}
