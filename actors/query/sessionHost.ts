/** What query sessions are given by the service they belong to. */
import type { InspectionEvent, Observer } from 'xstate';
import type { AccessSession } from '../../src/access/accessSession.js';
import type { Caller } from '../../src/access/caller.js';
import type { QueryJob } from '../../src/query/job.js';
import type { TailProgram } from '../../src/query/predicateProgram.js';
import type { Survey } from '../../src/query/survey.js';
import type { ParsedQuery } from './interpret.js';
import type { QueryLogger } from './logger.js';
import type { Watch, WatchListener } from './tail/tailThread.js';
import type { QueryRun, QueryRunListener, SurveyListener } from './workerPool.js';

/** What the session asks of the service around it. */
export interface QuerySessionHost {
  readonly logger: QueryLogger;
  readonly onInspect: Observer<InspectionEvent> | null;
  /** The peer behind an accepted socket, as it was at connect (QX-8). Throws when there is none. */
  readonly identify: (fd: number) => Caller;
  /** Begins a query of the caller: the descriptors of now hold to its end (ACL-46). Rejects when it is over before. */
  readonly openAccess: (caller: Caller, over: AbortSignal) => Promise<AccessSession>;
  /** Calls back when descriptors changed, until the returned function is called (ACL-49). */
  readonly onSecurityChange: (listener: () => void) => () => void;
  /** Throws QueryError (class P). */
  readonly parse: (text: string) => ParsedQuery;
  /** A query that will run asks for these fields of events (QX-40). */
  readonly used: (fields: readonly string[], rollup: string | null) => void;
  /** EVENTS INDEX of a caller (QL-72, QL-74); throws QueryError (class V). */
  readonly index: (caller: Caller, field: string) => Promise<void>;
  /** Takes a query slot; throws QueryError when there is none (QX-61). */
  readonly takeSlot: () => QuerySlot;
  /** Takes one of the MaxStreamingQueries; throws QueryError when there is none (STR-9). */
  readonly takeStream: () => QuerySlot;
  /** Runs the job on a worker; `seam` names the store of a stream's initial set. */
  readonly run: (
    job: QueryJob,
    deadline: bigint,
    listener: QueryRunListener,
    seam: TailProgram['store'] | null,
  ) => QueryRun;
  /** Asks a worker which names there are, for access control (QX-5). */
  readonly survey: (survey: Survey, deadline: bigint, listener: SurveyListener) => QueryRun;
  /** Watches for a stream in the tail thread. */
  readonly watch: (program: TailProgram, listener: WatchListener) => Watch;
  /** Asks the kernel for a larger send buffer. */
  readonly widen: (fd: number, bytes: number) => void;
  readonly monotonicNs: () => bigint;
}

/** One of the MaxConcurrentQueries, or of the MaxStreamingQueries. */
export interface QuerySlot {
  /** Safe twice. */
  release(): void;
}

/** The limits in force when the connection was accepted (QX-64). */
export interface SessionLimits {
  readonly maxQueryMessageBytes: number;
  readonly queryTimeoutMs: number;
}
