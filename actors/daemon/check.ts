/** `eventd --check`: what a start would do, without doing it. */

import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseSecurityDescriptor } from '../../src/access/securityDescriptor.js';
import { readBootId } from '../../src/host/bootId.js';
import { messageOf } from '../../src/host/errorMessage.js';
import { attachAllRings, checkKmesSource, type KmesSource, ringFileName } from '../../src/host/kmes.js';
import { resolveAdminGroups } from '../../src/host/peerIdentity.js';
import { choosePlatform, type HostChoice, type Platform } from '../../src/host/platform.js';
import { native } from '../../src/native/addon.js';
import { readSettings } from '../../src/registry/configuration.js';
import { EVENTD_KEY, SECURITY_KEY } from '../../src/registry/names.js';
import type { Registry } from '../../src/registry/registry.js';
import { SECURITY_DEFAULTS } from '../../src/registry/securityDefaults.js';
import type { Settings } from '../../src/registry/settings.js';
import { openRegistry, type RegistrySource, registrySource, sourceName } from '../../src/registry/source.js';
import { REG, type RegistryValue, registryTypeName } from '../../src/registry/value.js';
import { EventDatabases } from '../../src/stores/eventDatabases.js';
import { inspectEventStore } from '../../src/stores/eventStore.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { shardCount } from '../../src/stores/shardFiles.js';
import { inspectStore } from '../../src/stores/storeFile.js';
import { replaceableByOthers, socketPathState } from '../unixSocket.js';

export interface CheckOptions {
  readonly registryFile: string | null;
  readonly kmesDirectory: string;
  readonly host: HostChoice;
}

/** Lines for the reader: `ok` as it should be, `warn` eventd copes with it, `FAIL` a start would fail. */
class Findings {
  readonly lines: string[] = [];
  good = true;

  ok(text: string): void {
    this.lines.push(`ok    ${text}`);
  }

  warn(text: string): void {
    this.lines.push(`warn  ${text}`);
  }

  fail(text: string): void {
    this.good = false;
    this.lines.push(`FAIL  ${text}`);
  }

  /** Runs a step; what it throws would end a start. */
  async step<T>(work: () => T | Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      this.fail(messageOf(error));
      return null;
    }
  }
}

/**
 * Checks platform, settings, security, rings, stores and sockets in the order of a start, and changes
 * nothing; `good` is false when a start would fail.
 */
export async function checkInstallation(
  options: CheckOptions,
): Promise<{ readonly lines: readonly string[]; readonly good: boolean }> {
  const findings = new Findings();
  const platform = await findings.step(() => checkPlatform(options.host, findings));
  const source = registrySource(options.registryFile, platform?.adapters.lcs ?? 'linux');
  const settings = await findings.step(() => checkRegistry(source, findings));
  const ringSource: KmesSource =
    platform?.adapters.kmes === 'peios'
      ? { kind: 'kernel' }
      : { kind: 'embedded', directory: options.kmesDirectory };
  const cpus = (await findings.step(() => checkRings(ringSource, findings))) ?? 0;
  if (settings !== null) {
    checkEventStore(settings, cpus, findings);
    for (const [path, schema] of [
      [settings.LogStorePath, LOG_SCHEMA],
      [settings.MetricStorePath, METRIC_SCHEMA],
    ] as const) {
      if (!mayBeMade(dirname(path), findings)) continue;
      // A damaged one is set aside and made anew; one of an unknown version is left alone (FAIL-18, FAIL-21).
      const { file, state, detail } = inspectStore(path, schema);
      if (state === 'unusable') findings.warn(detail);
      else findings.ok(`${file}: ${detail}`);
    }
    await checkSockets(settings, findings);
  }
  return findings;
}

function checkPlatform(host: HostChoice, findings: Findings): Platform {
  const platform = choosePlatform(host, native.probeSyscall);
  if (platform.mixed) findings.warn(platform.description);
  else findings.ok(platform.description);
  return platform;
}

async function checkRegistry(source: RegistrySource, findings: Findings): Promise<Settings | null> {
  const registry = await openRegistry(source, { warn: (text) => findings.warn(text) });
  try {
    const { settings, problems } = readSettings(await registry.readValues(EVENTD_KEY).catch(noValues));
    for (const { fatal, message } of problems) fatal ? findings.fail(message) : findings.warn(message);
    if (settings !== null) {
      findings.ok(`${sourceName(source)}: configuration is complete`);
      await resolveAdminGroups(settings.AdminGroups, { warn: (text) => findings.warn(text) });
    }
    for (const type of Object.keys(SECURITY_DEFAULTS)) await checkSecurity(registry, type, findings);
    return settings;
  } finally {
    await registry.close();
  }
}

/** An absent key has none; another failure is for the reader to know. */
function noValues(error: unknown): readonly RegistryValue[] {
  if ((error as { code?: unknown }).code === 'ENOENT') return [];
  throw error;
}

/** A descriptor nobody understands denies what it covers; that is for the operator to know beforehand. */
async function checkSecurity(registry: Registry, type: string, findings: Findings): Promise<void> {
  const key = `${SECURITY_KEY}\\${type}`;
  let values: readonly RegistryValue[];
  try {
    values = await registry.readValues(key).catch(noValues);
  } catch (error) {
    const reason = messageOf(error);
    findings.warn(`${key}: cannot be read: ${reason}; what it covers is denied`);
    return;
  }
  if (!values.some(({ name }) => name === '*'))
    findings.warn(`${key}: no "*" yet; a start creates the default`);
  for (const value of values) {
    const reason = value.name === '' ? null : descriptorProblem(value);
    if (reason !== null)
      findings.warn(`${key}: ${JSON.stringify(value.name)} is ${reason}; what it covers is denied`);
  }
}

function descriptorProblem({ type, data }: RegistryValue): string | null {
  if (type !== REG.BINARY) return `${registryTypeName(type)} and no security descriptor`;
  try {
    parseSecurityDescriptor(data);
    return null;
  } catch (error) {
    return `no valid security descriptor (${messageOf(error)})`;
  }
}

function checkRings(source: KmesSource, findings: Findings): number {
  const bootId = readBootId();
  findings.ok(`boot ${bootId.text} from ${bootId.source}`);
  checkKmesSource(source, bootId.guid);
  if (source.kind === 'kernel') {
    // The kernel tells how many there are only by attaching them.
    const rings = attachAllRings(source, bootId.guid);
    for (const { ring } of rings) native.ringClose(ring);
    findings.ok(`${rings.length} event rings of the kernel`);
    return rings.length;
  }
  const { directory } = source;
  let cpus = 0;
  while (existsSync(join(directory, ringFileName(cpus)))) cpus++;
  findings.ok(`${cpus} event rings in ${directory}`);
  return cpus;
}

function checkEventStore(
  { EventStorePath, StorageShards }: Settings,
  cpus: number,
  findings: Findings,
): void {
  if (!mayBeMade(EventStorePath, findings) || cpus === 0) return;
  const shards = inspectEventStore(EventStorePath, shardCount(StorageShards, cpus));
  for (const { file, state, detail } of shards) {
    // A damaged shard does not stop eventd: it is left alone and others take its place (FAIL-15).
    if (state === 'unusable') findings.warn(detail);
    else findings.ok(`${file}: ${detail}`);
  }
  if (!existsSync(EventStorePath)) return;
  const written = new Set(shards.map(({ file }) => file));
  const others = new EventDatabases(EventStorePath, (name, reason) => {
    if (!written.has(join(EventStorePath, name)))
      findings.warn(`${join(EventStorePath, name)}: queries do without it: ${reason}`);
  }).scan();
  const readOnly = others.filter(({ path }) => !written.has(path)).length;
  if (readOnly > 0) findings.ok(`${readOnly} more databases in ${EventStorePath}: read by queries`);
}

/** True when the directory is there and writable, or can be made. */
function mayBeMade(directory: string, findings: Findings): boolean {
  let nearest = directory;
  while (!existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest);
  if (!statSync(nearest).isDirectory()) {
    findings.fail(`${directory}: ${nearest} is no directory`);
    return false;
  }
  try {
    accessSync(nearest, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    findings.fail(`${directory}: ${nearest} is not writable`);
    return false;
  }
}

async function checkSockets(settings: Settings, findings: Findings): Promise<void> {
  const sockets: readonly (readonly [name: string, path: string | null])[] = [
    ['query socket', settings.QuerySocketPath],
    ['log socket', settings.LogSocketPath],
    ['metric socket', settings.MetricSocketPath],
    ['debug socket', settings.DebugSocketPath],
  ];
  for (const [name, path] of sockets) {
    if (path === null) continue;
    if (!existsSync(dirname(path))) {
      findings.fail(`${name} ${path}: its directory does not exist`);
      continue;
    }
    const state = await socketPathState(path);
    if (state === 'noSocket') findings.fail(`${name} ${path}: exists and is no socket`);
    // Most probably by the eventd that is to be restarted; a second one would not start.
    else if (state === 'inUse') findings.warn(`${name} ${path}: in use by a running process`);
    else findings.ok(`${name} ${path}: ${state === 'stale' ? 'stale, will be replaced' : 'will be created'}`);
    if (replaceableByOthers(path))
      findings.warn(`${name} ${path}: its directory is writable by others, who could replace it`);
  }
}
