/**
 * The daemon's configuration (phase 1, and every change after it): reads the settings below
 * `Machine\System\eventd`, watches them, and keeps what is in force when the registry is gone (FAIL-25).
 */

import { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { messageOf } from '../../src/host/errorMessage.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import {
  type AppliedChange,
  applyChange,
  freshProblems,
  readServiceSettings,
  readSettings,
  SERVICE_DEFAULTS,
  type ServiceSettings,
} from '../../src/registry/configuration.js';
import { EVENTD_KEY, SERVICE_KEY } from '../../src/registry/names.js';
import type { Registry, RegistryWatch } from '../../src/registry/registry.js';
import { ensureSecurityDefaults } from '../../src/registry/securityDefaults.js';
import { type SettingMessage, settingMessage, settingStates } from '../../src/registry/settingReport.js';
import type { Settings } from '../../src/registry/settings.js';
import type { RegistryValue } from '../../src/registry/value.js';
import { Observable, Subject } from '../rx.js';

/** What is in force and why, as the debug socket tells it. */
export interface ConfigurationReport {
  /** Which registry it is: a hive file, or the kernel's. */
  readonly registry: string;
  /** Why the registry cannot be read right now; null while it can. */
  readonly unavailable: string | null;
  readonly settings: readonly SettingMessage[];
}

/** First and last pause before a reading that failed is made again. */
const REREAD_MS = 250;
const MAX_REREAD_MS = 10_000;

export class Configuration {
  readonly #registry: Registry;
  readonly #name: string;
  readonly #log: ProcessLog;
  readonly #changed$ = new Subject<void>();
  /** What has been told and still holds: problems, changes that wait for a start, why nothing can be read. */
  readonly #reported = new Set<string>();
  #deferred: ReadonlySet<string> = new Set();
  #keptFor: string | null = null;
  #watch: RegistryWatch | null = null;
  #settings: Settings;
  /** As they were read last, the source of `#settings` and of the report. */
  #values: readonly RegistryValue[];
  #unavailable: string | null = null;
  #closed = false;
  #reread: NodeJS.Timeout | null = null;
  #rereadMs = REREAD_MS;
  readonly service: ServiceSettings;
  /** Who may read what, always as the registry has it now (ACL-45, ACL-46). */
  readonly patterns: SecurityPatterns;

  private constructor(
    registry: Registry,
    name: string,
    log: ProcessLog,
    read: { readonly values: readonly RegistryValue[]; readonly settings: Settings },
    service: ServiceSettings,
  ) {
    this.#registry = registry;
    this.#name = name;
    this.#log = log;
    this.#values = read.values;
    this.#settings = read.settings;
    this.service = service;
    this.patterns = new SecurityPatterns(registry, log);
    registry.onAvailability((state) => {
      this.#unavailable = state.available ? null : state.reason;
      // Streams wait for descriptors that could not be read.
      if (state.available) void this.patterns.refresh();
    });
  }

  /**
   * Arms the watch, then reads (LIFE-135), and creates missing security defaults (LIFE-136).
   *
   * @param name what the registry is called in reports
   * @throws Error with one line per required value that is missing or invalid (LIFE-101)
   */
  static async load(registry: Registry, log: ProcessLog, name = 'the registry'): Promise<Configuration> {
    let notify: () => void = () => undefined;
    const watch = await armWatch(registry, () => notify());
    try {
      const values = await valuesOf(registry, EVENTD_KEY);
      const { settings, problems } = readSettings(values);
      if (settings === null) {
        const fatal = problems.filter((p) => p.fatal).map((p) => p.message);
        throw new Error(`${EVENTD_KEY}: ${fatal.join('; ')}`);
      }
      for (const { message } of problems) log.warn(message);
      const service = readServiceSettings(await valuesOf(registry, SERVICE_KEY));
      for (const { message } of service.problems) log.warn(`${SERVICE_KEY}: ${message}`);
      await ensureSecurityDefaults(registry, log);
      const configuration = new Configuration(registry, name, log, { values, settings }, service.settings);
      freshProblems(configuration.#reported, problems);
      configuration.#watch = watch;
      notify = () => configuration.#notified();
      return configuration;
    } catch (error) {
      watch.close();
      throw error;
    }
  }

  get settings(): Settings {
    return this.#settings;
  }

  /**
   * Something below the key changed; call `reload` to see what. Tells at once of what changed since the
   * watch was armed, the defaults created at the start included: a queue nobody empties stays silent.
   */
  readonly changed$: Observable<void> = new Observable<void>((subscriber) => {
    const subscription = this.#changed$.subscribe(subscriber);
    this.#notified();
    return subscription;
  });

  /**
   * Reads again and takes over what may change at run time (LIFE-141). An unavailable registry changes
   * nothing (FAIL-25), nor does one without the key (HOST-46).
   *
   * @returns what was applied, for one `synthetic.config_change` each (CFG-4)
   */
  async reload(): Promise<readonly AppliedChange[]> {
    let values: readonly RegistryValue[];
    try {
      await this.#registry.refresh();
      values = await this.#registry.readValues(EVENTD_KEY);
    } catch (error) {
      this.#kept(messageOf(error));
      this.#rereadAfter(error);
      return [];
    }
    this.#keptFor = null;
    this.#forgetReread();
    const { settings, applied, deferredRestart, problems } = applyChange(this.#settings, values);
    for (const { message } of freshProblems(this.#reported, problems)) this.#log.warn(message);
    for (const key of deferredRestart)
      if (!this.#deferred.has(key)) this.#log.info(`${key} changed; it takes effect at the next start`);
    this.#deferred = new Set(deferredRestart);
    this.#settings = settings;
    this.#values = values;
    return applied;
  }

  /** Every setting with its value in force, for `evctl config`. */
  report(): ConfigurationReport {
    const settings = settingStates(this.#values, this.#settings).map(settingMessage);
    return { registry: this.#name, unavailable: this.#unavailable, settings };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#forgetReread();
    this.#watch?.close();
    this.#changed$.complete();
    await this.#registry.close();
  }

  #kept(reason: string): void {
    if (reason !== this.#keptFor) this.#log.warn(`configuration kept: ${reason}`);
    this.#keptFor = reason;
  }

  /**
   * A registry that comes back says so, and so does a key; after any other failure, such as a key that
   * changes faster than it can be read, nothing else would make eventd look again (HOST-43).
   */
  #rereadAfter(error: unknown): void {
    const isToldOf = (error as { code?: unknown } | null)?.code === 'ENOENT' || this.#unavailable !== null;
    if (isToldOf || this.#closed || this.#reread !== null) return;
    this.#reread = setTimeout(() => {
      this.#reread = null;
      this.#changed$.next();
    }, this.#rereadMs);
    this.#reread.unref();
    this.#rereadMs = Math.min(2 * this.#rereadMs, MAX_REREAD_MS);
  }

  #forgetReread(): void {
    if (this.#reread !== null) clearTimeout(this.#reread);
    this.#reread = null;
    this.#rereadMs = REREAD_MS;
  }

  #notified(): void {
    const events = this.#watch?.take() ?? [];
    this.patterns.apply(events, EVENTD_KEY);
    // A key that was deleted and made again needs a new watch (HOST-46).
    if (events.some(({ type }) => type === 'keyDeleted')) {
      this.#watch?.close();
      this.#watch = null;
      void this.#rearm();
    }
    if (events.length > 0) this.#changed$.next();
  }

  async #rearm(delayMs = 100): Promise<void> {
    if (this.#closed) return;
    try {
      const watch = await armWatch(this.#registry, () => this.#notified());
      if (this.#closed) {
        watch.close();
        return;
      }
      this.#watch = watch;
      this.#notified();
      // What happened without a watch is unknown.
      this.patterns.invalidate();
      this.#changed$.next();
    } catch {
      setTimeout(() => void this.#rearm(Math.min(delayMs * 2, 5000)), delayMs).unref();
    }
  }
}

/** The stop bound without a configuration: peinit's own default. */
export const DEFAULT_SERVICE = SERVICE_DEFAULTS;

function armWatch(registry: Registry, notify: () => void): Promise<RegistryWatch> {
  return registry.watch(EVENTD_KEY, notify);
}

/** An absent key has no values: every required one is then missing by name. */
async function valuesOf(registry: Registry, key: string): Promise<readonly RegistryValue[]> {
  try {
    return await registry.readValues(key);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw error;
  }
}
