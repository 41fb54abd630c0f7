/**
 * `evctl --explain`: how eventd would run a query. The plan is made here, by the code that makes it in eventd, and
 * SQLite is asked in each database which indexes it would use; of the query itself nothing is executed. It needs to read the stores itself,
 * which the query socket's callers usually may not.
 */

import { join } from 'node:path';
import Database from 'better-sqlite3';
import { messageOf } from '../host/errorMessage.js';
import { chosenSql } from '../indexes/choice.js';
import { addonPath } from '../native/addon.js';
import { QueryError } from '../query/errors.js';
import type { ChosenStatement, JobParam, QueryJob, Statement, StoreName } from '../query/job.js';
import { readSettings } from '../registry/configuration.js';
import { EVENTD_KEY } from '../registry/names.js';
import { SETTINGS } from '../registry/settings.js';
import { openRegistry, usualSource } from '../registry/source.js';
import { EventDatabases } from '../stores/eventDatabases.js';
import { LOG_SCHEMA } from '../stores/logSchema.js';
import { METRIC_SCHEMA } from '../stores/metricSchema.js';
import { openReadOnly } from '../stores/readConnection.js';
import { readableFiles } from '../stores/singleStore.js';
import { type CommandContext, CommandFailure, namedRegistry, type PlanSettings } from './context.js';
import type { Ask } from './queryText.js';
import { type Paint, visible } from './terminal.js';
import { shortText, timeText } from './valueText.js';

type StorePaths = Readonly<Record<StoreName, string>>;

/** A statement of a job, where it runs, and what for. */
interface Step {
  readonly title: string;
  readonly store: StoreName | 'scratch';
  readonly statement: ChosenStatement;
}

/** @throws {CommandFailure} when the query is refused, or a store cannot be read */
export async function runExplain(context: CommandContext, ask: Ask): Promise<void> {
  const { options, output, paint, plan } = context;
  const { paths, settings } = await findInstallation(options.get('store-dir'), namedRegistry(context));
  const job = await planned(() => plan(ask.text, settings));
  const steps = stepsOf(job);
  const databases = new Map<Step['store'], readonly string[]>();
  for (const { store } of steps) if (store !== 'scratch') databases.set(store, databasesOf(store, paths));
  for (const [store, files] of databases) {
    const where = visible(paths[store as StoreName]);
    await output.write(
      `${paint('bold', `${store}:`)} ${files.length} ${files.length === 1 ? 'database' : 'databases'} in ${where}\n`,
    );
  }
  for (const [i, step] of steps.entries()) {
    await output.write(
      `\n${paint('bold', `${i + 1}. ${step.title}`)}\n${statementText(step.statement, paint)}`,
    );
    await output.write(
      step.store === 'scratch'
        ? scratchPlan(job, step.statement)
        : storePlan(step.statement, databases.get(step.store) ?? []),
    );
  }
  await output.write(`\n${shapeText(job)}\n`);
}

async function planned(plan: () => Promise<QueryJob>): Promise<QueryJob> {
  try {
    return await plan();
  } catch (error) {
    if (error instanceof QueryError) throw new CommandFailure(error.text);
    throw error;
  }
}

/** The stores, and the settings that plans depend on. */
interface Installation {
  readonly paths: StorePaths;
  readonly settings: PlanSettings;
}

/** Below a directory laid out as usual, with default settings; or as the registry says. */
async function findInstallation(
  directory: string | undefined,
  registryFile: string | null,
): Promise<Installation> {
  if (directory !== undefined)
    return {
      paths: {
        events: join(directory, 'events'),
        logs: join(directory, 'logs.db'),
        metrics: join(directory, 'metrics.db'),
      },
      settings: {
        CrossTypeWindowMs: SETTINGS.CrossTypeWindowMs.default,
        CrossTypeMaxLookbackSeconds: SETTINGS.CrossTypeMaxLookbackSeconds.default,
      },
    };
  const hint = 'name the registry file with --registry or the directory of the stores with --store-dir';
  try {
    const registry = await openRegistry(usualSource(registryFile), { warn: () => undefined });
    try {
      const { settings, problems } = readSettings(await registry.readValues(EVENTD_KEY));
      if (settings === null)
        throw new Error(problems.find(({ fatal }) => fatal)?.message ?? 'it is incomplete');
      return {
        paths: {
          events: settings.EventStorePath,
          logs: settings.LogStorePath,
          metrics: settings.MetricStorePath,
        },
        settings,
      };
    } finally {
      await registry.close();
    }
  } catch (error) {
    const reason = messageOf(error);
    throw new CommandFailure(`--explain: the stores are unknown: ${reason}; ${hint}`);
  }
}

function databasesOf(store: StoreName, paths: StorePaths): readonly string[] {
  const path = paths[store];
  const skipped: string[] = [];
  const note = (_: string, reason: string) => skipped.push(reason);
  let files: readonly string[];
  try {
    const found =
      store === 'events'
        ? new EventDatabases(path, note).scan()
        : readableFiles(path, store === 'logs' ? LOG_SCHEMA : METRIC_SCHEMA, note);
    files = found.map((file) => file.path);
  } catch (error) {
    throw unreadable(path, error instanceof Error && 'code' in error ? String(error.code) : String(error));
  }
  if (files.length === 0 && skipped[0] !== undefined) throw unreadable(path, skipped[0]);
  return files;
}

function unreadable(path: string, reason: string): CommandFailure {
  const texts: Readonly<Record<string, string>> = { ENOENT: 'there is none', EACCES: 'permission denied' };
  return new CommandFailure(
    `--explain: ${path}: the store cannot be read: ${texts[reason] ?? reason}; --explain reads the stores itself, run it as root or as eventd's user`,
  );
}

/** The statements of a job in the order they run. */
function stepsOf(job: QueryJob): Step[] {
  const steps: Step[] = [];
  for (const stage of job.stages) {
    for (const [name, value] of Object.entries(stage)) {
      if (!isStatement(value)) continue;
      const store = value.store ?? ('store' in stage ? stage.store : 'metrics');
      steps.push({ title: stageTitle(stage, name), store, statement: value });
    }
  }
  const isMerged = job.read.store !== 'scratch';
  const title = isMerged
    ? `read from each database of ${job.read.store}, merged`
    : 'read from the database in memory';
  steps.push({ title, store: job.read.store, statement: job.read });
  return steps;
}

function stageTitle(stage: QueryJob['stages'][number], name: string): string {
  if (stage.kind === 'copy')
    return `copy from each database of ${stage.from.store} into the query's own database in memory`;
  if (stage.kind === 'ranges') return `time ranges of a cross-type condition (${name} of ${stage.store})`;
  return `${stage.function}: ${name}`;
}

function isStatement(value: unknown): value is ChosenStatement & { readonly store?: StoreName } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'sql' in value &&
    'params' in value &&
    Array.isArray(value.params)
  );
}

/** Values listed one by one; the rest of a long IN list tells nothing. */
const MAX_PARAMS = 40;

function statementText({ sql, params }: Statement, paint: Paint): string {
  const listed = params.slice(0, MAX_PARAMS).map((param, i) => `     ?${i + 1} = ${paramText(param)}\n`);
  if (params.length > MAX_PARAMS) listed.push(`     … and ${params.length - MAX_PARAMS} more\n`);
  return `   ${paint('cyan', visible(sql))}\n${listed.join('')}`;
}

/** Nanoseconds of years that records have: worth showing as a time, too. */
const FIRST_TIME = 946_684_800_000_000_000n;

function paramText(param: JobParam): string {
  if (typeof param === 'object' && param !== null && 'ranges' in param)
    return `the time ranges of condition ${param.ranges + 1}`;
  if (param === null) return 'set for each series';
  const text = shortText(param as Parameters<typeof shortText>[0]);
  return typeof param === 'bigint' && param >= FIRST_TIME ? `${text} (${timeText(param, false, 9)})` : text;
}

/** The plan of a statement in each database; databases with the same plan are told together. */
function storePlan(statement: ChosenStatement, files: readonly string[]): string {
  if (files.length === 0) return '   no database, no records\n';
  const plans = new Map<string, string[]>();
  for (const file of files) {
    const text = planIn(() => openReadOnly(file), file, statement);
    const alike = plans.get(text);
    if (alike === undefined) plans.set(text, [file]);
    else alike.push(file);
  }
  return [...plans]
    .map(([text, [first = '', ...others]]) => {
      const more = others.length === 0 ? '' : ` and ${others.length} more alike`;
      return `   in ${visible(first)}${more}:\n${text}`;
    })
    .join('');
}

/** The read from the scratch database: its tables are those the copies make. */
function scratchPlan(job: QueryJob, statement: Statement): string {
  const tables = job.stages.flatMap((stage) => ('into' in stage ? [stage.into.create] : []));
  if (tables.length === 0) return '   in memory, over what the stage before it computed\n';
  const open = () => {
    const database = new Database(':memory:');
    for (const create of tables) database.exec(create);
    return database;
  };
  // A scan of what was collected for this query is what it is there for.
  const text = planIn(open, 'memory', statement).replace(/ {5}indexes:[^\n]*\n$/, '');
  return `   in memory:\n${text}`;
}

interface PlanRow {
  readonly id: number;
  readonly parent: number;
  readonly detail: string;
}

function planIn(open: () => Database.Database, name: string, statement: ChosenStatement): string {
  try {
    const database = open();
    try {
      database.loadExtension(addonPath);
      const sql = chosenSql(database, statement, (values) => values.map(bound));
      const { params } = statement;
      return planText(explained(database.prepare(`EXPLAIN QUERY PLAN ${sql}`), params.map(bound)));
    } finally {
      database.close();
    }
  } catch (error) {
    throw unreadable(name, messageOf(error));
  }
}

/** Parameters that a stage sets for each row, at most; NULL does as well for a plan. */
const MAX_LATE_PARAMS = 8;

function explained(statement: Database.Statement, params: readonly unknown[]): PlanRow[] {
  const numbered = Object.fromEntries(
    Array.from({ length: params.length + MAX_LATE_PARAMS }, (_, i) => [String(i + 1), params[i] ?? null]),
  );
  // better-sqlite3 takes `?3` for a name, and wants each plain `?` to have its value.
  const isNumbered = /\?\d/.test(statement.source);
  for (let late = 0; ; late++) {
    try {
      const plain = new Array<null>(late).fill(null);
      const values = isNumbered ? [...plain, numbered] : [...params, ...plain];
      return statement.all(...values) as PlanRow[];
    } catch (error) {
      if (!(error instanceof RangeError) || late === MAX_LATE_PARAMS) throw error;
    }
  }
}

function bound(param: JobParam): unknown {
  return typeof param === 'object' && param !== null && 'ranges' in param ? Buffer.alloc(0) : param;
}

/** The rows as a tree, and the indexes they name. */
function planText(rows: readonly PlanRow[]): string {
  const depths = new Map<number, number>();
  const lines = rows.map(({ id, parent, detail }) => {
    const depth = (depths.get(parent) ?? -1) + 1;
    depths.set(id, depth);
    return `     ${'  '.repeat(depth)}${visible(detail)}\n`;
  });
  const indexes = new Set(
    rows.flatMap(({ detail }) => /USING (?:COVERING )?INDEX (\S+)/.exec(detail)?.[1] ?? []),
  );
  const isScan = rows.some(
    ({ detail }) => /^SCAN (?!CONSTANT|\(|json_each)/.test(detail) && !detail.includes('USING'),
  );
  const used = indexes.size === 0 ? 'none' : [...indexes].map(visible).join(', ');
  return `${lines.join('')}     indexes: ${used}${isScan ? '; some table is read from end to end' : ''}\n`;
}

/** What is done to the rows behind the SQL: those of several databases are merged, and paged after that. */
function shapeText({ read }: QueryJob): string {
  const paging = [
    read.skip > 0n ? `the first ${read.skip} left out` : null,
    read.take === null ? 'no limit' : `at most ${read.take} records`,
  ].filter((part) => part !== null);
  const merged = read.store === 'scratch' ? [] : ['merged in the order of the sort keys'];
  return `Then: ${[...merged, ...paging].join(', ')}; sent in messages of about 1000 records.`;
}
