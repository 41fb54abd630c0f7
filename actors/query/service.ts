/**
 * eventd's query service: one Unix socket, one session per connection, a few worker threads that read
 * (WIRE-1, WIRE-13, QX-60..68).
 */
import type { Server, Socket } from 'node:net';
import type { InspectionEvent, Observer } from 'xstate';
import type { QuerySessionOutcome } from '../../machines/querySession.js';
import { AccessSession } from '../../src/access/accessSession.js';
import { mayAdminister } from '../../src/access/adminDescriptor.js';
import type { Caller, StoredDescriptor } from '../../src/access/caller.js';
import type { AuditSink } from '../../src/access/embeddedCaller.js';
import { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { callerSource } from '../../src/host/callers.js';
import type { Adapter } from '../../src/host/platform.js';
import { candidacyOf } from '../../src/indexes/fields.js';
import { native } from '../../src/native/addon.js';
import type { CrossSettings } from '../../src/query/crossFilter.js';
import { QueryError } from '../../src/query/errors.js';
import { DEFAULT_SECURITY } from '../../src/registry/securityDefaults.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { encodeError } from '../../src/wire/messages.js';
import { listenOnUnixSocket, replaceableByOthers } from '../unixSocket.js';
import { interpret } from './interpret.js';
import type { QueryLogger } from './logger.js';
import { type QuerySession, startQuerySession } from './session.js';
import type { QuerySessionHost, QuerySlot } from './sessionHost.js';
import { TailThread } from './tail/tailThread.js';
import { QueryWorkerPool } from './workerPool.js';

const WORKERS = 2;

/** Connections the kernel keeps for us while we are busy. */
const BACKLOG = 512;

/** Sockets accepted beyond two per query slot: short-lived errors must still get an answer. */
const SPARE_CONNECTIONS = 64;

/** Time a refused connection has to take its answer, in ms. */
const LINGER_MS = 500;

/** Every user may connect; who they are decides what they see (HOST-70). */
const SOCKET_MODE = 0o666;

const STOPPING = 'shutting down: eventd is stopping';

/** The settings of this service (QX-61, QX-62, WIRE-3, QL-114, QL-117). Changes hold for queries started later (QX-64). */
export interface QueryLimits extends CrossSettings {
  readonly maxConcurrentQueries: number;
  /** In force at once for new streams (STR-9). */
  readonly maxStreamingQueries: number;
  readonly maxQueryMessageBytes: number;
  readonly queryTimeoutMs: number;
  /** Memory of all queries together, in force at once. */
  readonly queryMemoryBytes: number;
}

/** The index policy as queries meet it. */
export interface IndexPolicyPort {
  /** Never blocks (QX-43). */
  used(fields: readonly string[]): void;
  /** `admin_sd`; null where it is missing or malformed (ACL-57). */
  adminDescriptor(): Promise<StoredDescriptor | null>;
  /** Resolves when the field is in the desired set. */
  index(field: string): Promise<void>;
}

export interface QueryServiceOptions {
  readonly socketPath: string;
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** What the writers publish their commits in, for streams (STR-5); by default nobody does. */
  readonly commits?: SharedArrayBuffer;
  readonly limits: QueryLimits;
  readonly logger: QueryLogger;
  /** Groups whose members are administrators besides root; see `resolveAdminGroups` (HOST-67). */
  readonly adminGids?: ReadonlySet<number>;
  /** The peer behind an accepted socket (QX-8); by default the stand-in for KACS (HOST-66). */
  readonly callers?: (fd: number) => Caller;
  /** Which access checks decide where `callers` does not say; by default the stand-in's. */
  readonly adapter?: Adapter;
  /** Where the stand-in answers audit entries of descriptors (ACL-85); by default nowhere. */
  readonly audits?: AuditSink;
  /** Who may read what; by default the descriptors that a new registry gets (ACL-13). */
  readonly patterns?: SecurityPatterns;
  /** What queries ask for is told, and EVENTS INDEX goes there (IDX-3, IDX-47); without one it is refused. */
  readonly policy?: IndexPolicyPort;
  /** Told the key of the rollups that a metric query asks for (ROL-10). Never blocks. */
  readonly rollupUsed?: (pair: string) => void;
  /** Sees what every session's actor does. */
  readonly onInspect?: Observer<InspectionEvent>;
  /** Module of the worker threads. */
  readonly workerEntry?: URL;
  /** Module of the tail thread. */
  readonly tailEntry?: URL;
}

/** Counts since start, `running` and `connections` as of now. */
export interface QueryServiceStats {
  readonly connections: number;
  /** Queries that hold a slot. */
  readonly running: number;
  /** Those of them that are streams. */
  readonly streaming: number;
  /** Bytes of memory they hold (`QueryMemoryBytes`). */
  readonly memoryBytes: number;
  /** Requests answered by an error before anything was read. */
  readonly refused: number;
  /** Queries ended by an error, a timeout or their client while they ran. */
  readonly failed: number;
  /** Queries delivered to the end message. */
  readonly delivered: number;
}

export class QueryService {
  readonly #server: Server;
  readonly #workers: QueryWorkerPool;
  readonly #tail: TailThread;
  readonly #host: QuerySessionHost;
  readonly #sessions = new Set<QuerySession>();
  /** Accepted before the service serves; their bytes stay in the kernel (LIFE-137). */
  #held: Socket[] | null = [];
  #limits: QueryLimits;
  #adminGids: ReadonlySet<number>;
  #nextSession = 0;
  #running = 0;
  #streaming = 0;
  /** Refused connections that still take their answer. */
  #lingering = 0;
  #refused = 0;
  #failed = 0;
  #delivered = 0;
  #stopping: Promise<void> | null = null;

  /**
   * Binds the socket; clients may connect and wait. `accept` begins to serve.
   * @throws SocketPathError when the socket cannot be had
   */
  static async start(options: QueryServiceOptions): Promise<QueryService> {
    let service: QueryService | null = null;
    const early: Socket[] = [];
    const server = await listenOnUnixSocket(
      { path: options.socketPath, mode: SOCKET_MODE, backlog: BACKLOG },
      (socket) => {
        if (service === null) early.push(socket);
        else service.#connected(socket);
      },
    );
    if (replaceableByOthers(options.socketPath)) {
      options.logger.warn(
        { path: options.socketPath },
        'the directory of the query socket is writable by others, who can put a socket of their own there',
      );
    }
    service = new QueryService(options, server);
    for (const socket of early) service.#connected(socket);
    return service;
  }

  private constructor(options: QueryServiceOptions, server: Server) {
    this.#limits = options.limits;
    this.#adminGids = options.adminGids ?? new Set();
    this.#server = server;
    const { eventStorePath, logStorePath, metricStorePath, logger } = options;
    const commits = options.commits ?? CommitFeed.allocate();
    const stores = { eventStorePath, logStorePath, metricStorePath, commits, logger };
    this.#tail = new TailThread({
      ...stores,
      ...(options.tailEntry === undefined ? {} : { entry: options.tailEntry }),
    });
    this.#workers = new QueryWorkerPool({
      ...stores,
      workers: WORKERS,
      memoryBytes: options.limits.queryMemoryBytes,
      ...(options.workerEntry === undefined ? {} : { entry: options.workerEntry }),
    });
    const patterns =
      options.patterns ?? new SecurityPatterns(DEFAULT_SECURITY, { warn: (text) => logger.warn({}, text) });
    this.#host = {
      logger: options.logger,
      onInspect: options.onInspect ?? null,
      identify:
        options.callers ??
        callerSource({
          adapter: options.adapter ?? 'linux',
          adminGids: () => this.#adminGids,
          sink: options.audits ?? null,
        }),
      openAccess: (caller, over) => AccessSession.open(caller, patterns, over),
      onSecurityChange: (listener) => patterns.onChange(listener),
      parse: (text) => interpret(text, this.#limits),
      used: (fields, rollup) => {
        options.policy?.used(fields);
        if (rollup !== null) options.rollupUsed?.(rollup);
      },
      index: (caller, field) => this.#index(caller, field, options.policy ?? null),
      takeSlot: () => this.#takeSlot(),
      takeStream: () => this.#takeStream(),
      run: (job, deadline, listener, seam) => this.#workers.run(job, deadline, listener, seam),
      survey: (survey, deadline, listener) => this.#workers.survey(survey, deadline, listener),
      watch: (program, listener) => this.#tail.watch(program, this.#limits.crossTypeWindowMs, listener),
      widen: (fd, bytes) => native.socketSendBuffer(fd, bytes),
      monotonicNs: () => native.monotonicNs(),
    };
  }

  /** Starts the workers and begins to serve, those first who waited (LIFE-137). Safe twice. */
  accept(): void {
    this.#workers.start();
    const held = this.#held ?? [];
    this.#held = null;
    for (const socket of held) this.#serve(socket);
  }

  /** New limits, for connections accepted and queries started from now on (QX-64). */
  updateLimits(limits: QueryLimits): void {
    this.#limits = limits;
    this.#workers.setMemoryLimit(limits.queryMemoryBytes);
  }

  /** The admin groups resolved anew; connections accepted before keep their token (HOST-67, HOST-69). */
  updateAdminGroups(gids: ReadonlySet<number>): void {
    this.#adminGids = gids;
  }

  stats(): QueryServiceStats {
    return {
      connections: this.#sessions.size + (this.#held?.length ?? 0),
      running: this.#running,
      streaming: this.#streaming,
      memoryBytes: this.#workers.memoryUsed,
      refused: this.#refused,
      failed: this.#failed,
      delivered: this.#delivered,
    };
  }

  /** Closes the listening socket and removes its file; running queries go on (LIFE-201). Safe twice. */
  stopAccepting(): void {
    if (this.#server.listening) this.#server.close();
    for (const socket of this.#held?.splice(0) ?? []) this.#refuse(socket, STOPPING);
  }

  /**
   * Ends every query with `shutting down:` and closes all read connections (STR-14, LIFE-207). Takes a
   * few seconds at most, however slow the clients are. Safe twice.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.stopAccepting();
    for (const session of this.#sessions) session.stop(STOPPING);
    const ended = Promise.all([...this.#sessions].map(({ closed }) => closed));
    // A session may wait for its worker's last word, and the pool stops within a bounded time.
    await Promise.all([ended, this.#workers.stop(), this.#tail.stop()]);
  }

  #connected(socket: Socket): void {
    // A socket that fails also closes, which is noticed where it matters.
    socket.on('error', () => {});
    if (this.#stopping !== null) {
      this.#refuse(socket, STOPPING);
      return;
    }
    const limit = 2 * this.#limits.maxConcurrentQueries + SPARE_CONNECTIONS;
    if (this.stats().connections >= limit) {
      this.#refused++;
      this.#refuse(socket, `limit exceeded: ${limit} connections are open (see MaxConcurrentQueries)`);
      return;
    }
    if (this.#held === null) this.#serve(socket);
    else this.#held.push(socket);
  }

  #serve(socket: Socket): void {
    if (socket.destroyed) return;
    const session = startQuerySession(
      `querySession:${this.#nextSession++}`,
      socket,
      this.#limits,
      this.#host,
    );
    this.#sessions.add(session);
    void session.closed.then((outcome) => {
      this.#sessions.delete(session);
      this.#count(outcome);
    });
  }

  /**
   * Tells a client why it is not served. Its request is read away while it takes the answer, since a
   * socket closed over unread bytes resets the client; when many linger so, the next are cut at once.
   */
  #refuse(socket: Socket, text: string): void {
    if (this.#lingering >= SPARE_CONNECTIONS) {
      socket.write(encodeError(text), () => socket.destroy());
      return;
    }
    this.#lingering++;
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.on('close', () => {
      clearTimeout(timer);
      this.#lingering--;
    });
    socket.resume();
    socket.end(encodeError(text));
  }

  /** Who may comes before what may (QL-74, QL-75). Any error on the way denies (IDX-44). */
  async #index(caller: Caller, field: string, policy: IndexPolicyPort | null): Promise<void> {
    const descriptor = (await policy?.adminDescriptor().catch(() => null)) ?? null;
    if (!(await mayAdminister(caller, descriptor))) {
      throw new QueryError('V', 'access denied', 'EVENTS INDEX is for administrators of the index policy');
    }
    const candidacy = candidacyOf(field);
    if (candidacy.kind === 'never') throw new QueryError('V', 'unsupported', candidacy.reason);
    if (candidacy.kind === 'candidate') await policy?.index(field);
  }

  #takeSlot(): QuerySlot {
    const limit = this.#limits.maxConcurrentQueries;
    if (this.#running >= limit) throw tooMany(limit, 'queries', 'MaxConcurrentQueries');
    this.#running++;
    return slot(() => this.#running--);
  }

  #takeStream(): QuerySlot {
    const limit = this.#limits.maxStreamingQueries;
    if (this.#streaming >= limit) throw tooMany(limit, 'streams', 'MaxStreamingQueries');
    this.#streaming++;
    return slot(() => this.#streaming--);
  }

  #count(outcome: QuerySessionOutcome): void {
    if (outcome === 'delivered') this.#delivered++;
    else if (outcome === 'refused') this.#refused++;
    else this.#failed++;
  }
}

function slot(giveBack: () => void): QuerySlot {
  let held = true;
  return {
    release: () => {
      if (held) giveBack();
      held = false;
    },
  };
}

function tooMany(limit: number, what: string, setting: string): QueryError {
  return new QueryError('V', 'limit exceeded', `${limit} ${what} are running, as many as ${setting} allows`);
}
