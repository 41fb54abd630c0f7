/** Aggregations through the socket beside the same in SQL, per database in parallel. */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { drain } from '../../test/fixtures/resultDrain.js';
import { printed } from '../records/processes.js';
import { table } from '../table.js';
import { type Dataset, EVENT_TYPES, NAMES, ORIGINS, SERIES } from './dataset.js';
import { type PeerRun, sqliteShell } from './peers.js';
import type { ServiceProcess } from './service.js';
import type { Verdicts } from './verdicts.js';

interface Question {
  readonly query: string;
  readonly paths: (data: Dataset) => readonly string[];
  readonly sql: string;
  /** The sqlite3 shell; `functions`: SQLite in a process of ours, since the SQL needs our functions. */
  readonly by: 'shell' | 'functions';
  /** Result records of the query, and rows of SQL in all databases together; null: not said beforehand. */
  readonly records: number | null;
  readonly rows: number | null;
  /** Our time in terms of theirs, at most. */
  readonly limit?: number;
}

const NAME = "msgpack_extract(payload, '$.name')";
const HOUR_NS = 3_600_000_000_000n;

function questions(shards: number): readonly Question[] {
  const events = { paths: ({ shardPaths }: Dataset) => shardPaths };
  return [
    {
      ...events,
      query: 'EVENTS COUNT BY event_type',
      sql: 'SELECT event_type, count(*) FROM events GROUP BY event_type',
      by: 'shell',
      records: EVENT_TYPES,
      rows: EVENT_TYPES * shards,
      limit: 1.5,
    },
    {
      ...events,
      query: 'EVENTS COUNT BY name',
      sql: `SELECT ${NAME} AS k, count(*) FROM events GROUP BY k`,
      by: 'functions',
      records: NAMES,
      rows: NAMES * shards,
    },
    {
      ...events,
      query: 'EVENTS GROUP event_type AVG bytes',
      sql: "SELECT event_type, avg(msgpack_extract(payload, '$.bytes')) FROM events GROUP BY event_type",
      by: 'functions',
      records: EVENT_TYPES,
      rows: EVENT_TYPES * shards,
    },
    {
      ...events,
      query: 'EVENTS COUNT',
      sql: 'SELECT count(*) FROM events',
      by: 'shell',
      records: 1,
      rows: shards,
      limit: 2,
    },
    {
      query: 'LOGS TOP 10 BY origin',
      paths: ({ logPath }) => [logPath],
      sql: 'SELECT origin, count(*) AS c FROM logs GROUP BY origin ORDER BY c DESC LIMIT 10',
      by: 'shell',
      records: Math.min(10, ORIGINS),
      rows: Math.min(10, ORIGINS),
      limit: 2,
    },
    {
      query: 'METRIC load[] SINCE 400d ago AVG_OVER 1h',
      paths: ({ metricPath }) => [metricPath],
      sql:
        `SELECT s.series_id, s.timestamp / ${HOUR_NS} AS w, avg(s.value) ` +
        `FROM samples AS s JOIN series AS r ON r.id = s.series_id WHERE r.name = 'load' GROUP BY s.series_id, w`,
      by: 'shell',
      records: null,
      rows: null,
    },
  ];
}

export async function compareAggregations(
  service: ServiceProcess,
  data: Dataset,
  rounds: number,
  verdicts: Verdicts,
): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const question of questions(data.shards)) {
    const peer = peerOf(question, data);
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const answer = await drain(service.socket, question.query);
      if (question.records !== null) assert.equal(answer.records, question.records, question.query);
      ours.push(answer.ms);
      if (peer === null) continue;
      const run = await peer();
      if (question.rows !== null) assert.equal(run.lines, question.rows, question.sql);
      // Windows begin where the query does, so the two may differ by one in a series.
      else assert.ok(Math.abs(run.lines - answer.records) <= SERIES, question.sql);
      theirs.push(run.ms);
    }
    const ratio = Math.min(...ours) / Math.min(...theirs);
    rows.push([
      question.query,
      Math.round(Math.min(...ours)),
      peer === null ? '' : Math.round(Math.min(...theirs)),
      peer === null ? '' : (Math.min(...theirs) / Math.min(...ours)).toFixed(2),
      peer === null ? '' : question.by,
    ]);
    if (question.limit === undefined) continue;
    const what = `${question.query} against the sqlite3 shell, all shards at once`;
    if (peer === null) verdicts.skip(what, 'sqlite3 is not installed');
    else verdicts.check(what, ratio, 'at most', question.limit, 'times its time');
  }
  console.log(table(['aggregation', 'eventd ms', 'SQL ms', 'times as fast', 'SQL by'], rows));
}

function peerOf({ by, paths, sql }: Question, data: Dataset): (() => Promise<PeerRun>) | null {
  if (by === 'shell') {
    const shell = sqliteShell();
    return shell === null ? null : () => shell(paths(data), sql);
  }
  const program = fileURLToPath(new URL('./sqlShard.js', import.meta.url));
  return async () => {
    const runs = await Promise.all(
      paths(data).map((path) =>
        printed<{ rows: number; ms: number }>(process.execPath, [program, path, sql]),
      ),
    );
    return {
      ms: Math.max(...runs.map(({ ms }) => ms)),
      lines: runs.reduce((sum, { rows }) => sum + rows, 0),
    };
  };
}
