/** Holds a stream whenever what it may be shown is decided anew: descriptors changed, or something new came (STR-13). */
import type { AccessSession } from '../../src/access/accessSession.js';
import type { TailProgram } from '../../src/query/predicateProgram.js';
import type { Found } from '../../src/query/survey.js';
import type { RowRange } from './tail/protocol.js';
import type { Watch } from './tail/tailThread.js';

/** Pause before checks that failed are made again, in ms. */
export const RETRY_MS = 5000;

export interface HeldStreamOptions {
  readonly access: Pick<AccessSession, 'isStale' | 'hasFailed' | 'retryFailed'>;
  readonly watch: Pick<Watch, 'hold' | 'resume'>;
  /** The program anew; what goes wrong is an Error fit for the client. */
  readonly again: (news: Found) => Promise<TailProgram>;
  /** Calls back when descriptors changed, until the returned function is called (ACL-49). */
  readonly onSecurityChange: (listener: () => void) => () => void;
  /** The stream cannot go on. */
  readonly onFailed: (error: unknown) => void;
}

export class HeldStream {
  readonly #options: HeldStreamOptions;
  /** It waits for a new program; rows found by the old one since then are looked at again. */
  #held: RowRange[] | null = null;
  #unheed: (() => void) | null = null;
  /** Since it was last decided what the stream may be shown. */
  #changed = false;
  /** Until failed checks are made again. */
  #pause: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(options: HeldStreamOptions) {
    this.#options = options;
  }

  /**
   * Whether rows were found under verdicts that no longer hold. They are put aside, the stream is stopped,
   * and goes on from them with a new program.
   */
  isOld(rows: RowRange): boolean {
    if (this.#held === null) {
      if (!this.#options.access.isStale) return false;
      this.#hold();
    }
    this.#held?.push(rows);
    return true;
  }

  /** From now on: a stream that is shown nothing gets no rows to notice a change by, so it is told of changes. */
  heed(): void {
    this.#unheed = this.#options.onSecurityChange(() => {
      // An edit may change several descriptors.
      if (!this.#changed) setImmediate(() => this.#holdIfChanged());
      this.#changed = true;
    });
    this.#changed = this.#options.access.isStale;
    this.#retryLater();
    this.#holdIfChanged();
  }

  /** The stream stands still: because of old verdicts, or at rows with names and fields nobody decided about. */
  async decide(news: Found): Promise<void> {
    this.#held ??= [];
    this.#changed = false;
    try {
      const program = await this.#options.again(news);
      const rows = this.#held;
      this.#held = null;
      if (this.#ended) return;
      this.#options.watch.resume(program, rows);
      this.#retryLater();
      this.#holdIfChanged();
    } catch (error) {
      this.#options.onFailed(error);
    }
  }

  /** Safe twice. */
  close(): void {
    this.#ended = true;
    this.#unheed?.();
    if (this.#pause !== null) clearTimeout(this.#pause);
  }

  /**
   * What a failed check is about is not shown meanwhile. Whether rows come or not, it is made again after a
   * pause: who decided anew at once would never go on where it keeps failing.
   */
  #retryLater(): void {
    if (!this.#options.access.hasFailed || this.#pause !== null || this.#ended) return;
    this.#pause = setTimeout(() => {
      this.#pause = null;
      this.#options.access.retryFailed();
      this.#changed = true;
      this.#holdIfChanged();
    }, RETRY_MS);
  }

  /** While it stands still already, what changes meanwhile waits for its going on. */
  #holdIfChanged(): void {
    if (this.#changed && this.#held === null && !this.#ended) this.#hold();
  }

  #hold(): void {
    this.#held = [];
    this.#options.watch.hold();
  }
}
