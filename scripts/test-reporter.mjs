// Reports what node:test runs: one line for each file as it ends, each failure in full where it happens and
// in short at the end. A test that is skipped, cancelled or still to do counts as failed.
import { join, relative, sep } from 'node:path';
import { inspect } from 'node:util';

const root = new URL('..', import.meta.url).pathname;
/** A test that takes longer is named on its file's line; of one file so many at the most. */
const SLOW_MS = 2000;
const SLOW_NAMED = 3;
const SLOWEST_FILES = 10;
/** Of what a file prints, its end is kept for the case that it fails. */
const OUTPUT_KEPT = 8000;
const TITLE_KEPT = 60;
/** The title of a failure that is none of its tests'. */
const WHOLE_FILE = 'the file';

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const indent = (text) => text.replace(/^(?=.)/gm, '    ');

/** `unit/hive` for `/…/dist/test/unit/hive.test.js`. */
function nameOf(file) {
  return relative(join(root, 'dist', 'test'), file).replace(/\.test\.[cm]?js$/, '');
}

/** What the test threw; node:test wraps it. */
function thrownBy(error) {
  const cause = error?.cause;
  return typeof cause === 'object' && cause !== null ? cause : error;
}

/** Message and those lines of the stack that are ours. */
function inShort(error) {
  const message = error?.message ?? inspect(error);
  const ours = (error?.stack ?? '')
    .split('\n')
    .filter(
      (line) => /^\s+at /.test(line) && line.includes(root) && !line.includes(`${sep}node_modules${sep}`),
    )
    .map((line) => line.trim().replace('file://', '').replaceAll(root, ''));
  return [message, ...ours].join('\n');
}

/**
 * Takes the events of one test file, and no other's: tests that a helper has made tell where they stand, not
 * whose they are.
 */
export class FileReport {
  tests = 0;
  passed = 0;
  /** Null until its process has ended. */
  ms = null;
  /** As node:test sees it. */
  isGood = false;
  /** Titles of the tests around the present one, outermost first. */
  titles = [];
  slow = [];
  failures = [];
  output = '';
  /** The report of its second run, if there was one. */
  again = null;

  constructor(file) {
    this.file = file;
    this.name = nameOf(file);
  }

  printed(text) {
    this.output = `${this.output}${text}`.slice(-OUTPUT_KEPT);
  }

  begun({ name, nesting }) {
    this.titles.length = nesting;
    this.titles[nesting] = name;
  }

  /** Counts a test that ended, and returns its failure, if it is one of its own. */
  ended({ name, nesting, file, line, details, skip, todo }, passed) {
    if (details.type === 'suite' && passed) return null;
    if (details.type !== 'suite') this.tests++;
    const ms = details.duration_ms ?? 0;
    if (ms >= SLOW_MS && nesting === 0) this.slow.push({ name, ms });
    const why = whyNot({ skip, todo, error: details.error }, passed);
    if (why === null) {
      if (passed) this.passed++;
      return null;
    }
    const title = [...this.titles.slice(0, nesting), name].join(' > ');
    return this.failed(title, why, `${relative(root, file)}:${line}`);
  }

  failed(title, { what, error }, place = relative(root, this.file)) {
    const failure = { file: this.name, place, title, what, error };
    this.failures.push(failure);
    return failure;
  }

  /** The text to print for an event; empty for most. */
  take(type, data) {
    const isFile = data.name === this.file && data.nesting === 0;
    switch (type) {
      case 'test:stdout':
      case 'test:stderr':
        this.printed(data.message);
        return '';
      case 'test:diagnostic':
        // What went wrong outside of any test has no file, as have the counts of node:test.
        if (data.file !== undefined || /^\w*(Error|Warning): /.test(data.message))
          this.printed(`${data.message}\n`);
        return '';
      case 'test:complete':
        if (!isFile) return '';
        this.ms = data.details.duration_ms;
        this.isGood = data.details.passed;
        return '';
      case 'test:start':
        if (!isFile) this.begun(data);
        return '';
      case 'test:pass':
      case 'test:fail':
        return inFull(
          isFile ? this.fileEnded(data, type === 'test:pass') : this.ended(data, type === 'test:pass'),
        );
      default:
        return '';
    }
  }

  /** node:test tells of the file itself only when there is something beside its tests. */
  fileEnded({ details: { error } }, passed) {
    if (passed) return null;
    const what = error?.failureType === 'testCodeFailure' ? endOf(error) : thrownBy(error);
    return this.failed(WHOLE_FILE, { what: 'failed', error: what });
  }

  /** What is wrong with the file as a whole, when none of its tests tells. */
  problem() {
    if (this.failures.length > 0) return null;
    if (this.ms === null) return 'it did not end';
    if (this.tests === 0) return 'it holds no test';
    return this.isGood ? null : 'it failed, and none of its tests did';
  }

  /** The text to print when all events have come. */
  close() {
    const problem = this.problem();
    const failure = problem === null ? null : this.failed(WHOLE_FILE, { what: 'failed', error: problem });
    const output =
      this.failures.length > 0 && this.output !== ''
        ? `What ${this.name} printed:\n${indent(this.output)}\n`
        : '';
    return `${inFull(failure)}${output}${this.line()}`;
  }

  /** Not where a test is skipped or still to do, and not where the process itself broke: no busy machine does that. */
  mayRunAgain() {
    return this.failures.every(({ what, title }) => what === 'failed' && title !== WHOLE_FILE);
  }

  hasPassed() {
    return this.failures.length === 0 || this.isUnsteady();
  }

  isUnsteady() {
    return this.again !== null && this.again.failures.length === 0;
  }

  line() {
    const mark = this.failures.length === 0 ? 'ok    ' : 'FAILED';
    const count = `${this.tests} ${this.tests === 1 ? 'test' : 'tests'}`;
    const slowest = this.slow.sort((a, b) => b.ms - a.ms);
    const named = slowest
      .slice(0, SLOW_NAMED)
      .map(({ name, ms }) => `${seconds(ms)} ${short(name, TITLE_KEPT)}`);
    if (slowest.length > SLOW_NAMED) named.push(`${slowest.length - SLOW_NAMED} more`);
    const slow = named.length === 0 ? '' : `  slow: ${named.join('; ')}`;
    return `${mark} ${this.name.padEnd(40)} ${count.padStart(9)} ${seconds(this.ms ?? 0).padStart(8)}${slow}\n`;
  }
}

/** Why a test does not count as passed; null when it does, or when only a test inside it did not. */
function whyNot({ skip, todo, error }, passed) {
  if (skip !== undefined && skip !== false)
    return { what: 'skipped', error: skip === true ? 'no reason given' : skip };
  if (todo !== undefined && todo !== false)
    return { what: 'to do', error: todo === true ? 'no reason given' : todo };
  if (passed || error?.failureType === 'subtestsFailed') return null;
  if (error?.failureType === 'cancelledByParent') return { what: 'cancelled', error: thrownBy(error) };
  return { what: 'failed', error: thrownBy(error) };
}

function inFull(failure) {
  if (failure === null) return '';
  const { file, place, title, what, error } = failure;
  const text = typeof error === 'string' ? error : inspect(error);
  return `\n${what.toUpperCase()} in ${file}: ${title}\n  ${place}\n${indent(text)}\n\n`;
}

/** What the whole process of a file ended with, when its tests alone do not tell. */
function endOf({ exitCode, signal }) {
  if (signal !== undefined && signal !== null) return `the file's process was ended by ${signal}`;
  return `the file's process ended with code ${exitCode}`;
}

/** The text that ends a run: the failures again, the slowest files, the counts. */
export function summary(reports, startedAt) {
  const failures = reports.filter((report) => !report.hasPassed()).flatMap((report) => report.failures);
  const unsteady = reports.filter((report) => report.isUnsteady()).flatMap((report) => report.failures);
  const tests = reports.reduce((sum, report) => sum + report.tests, 0);
  const lines = [];
  lines.push(...listed('FAILED', failures));
  lines.push(...listed('UNSTEADY (failed beside others, passed alone)', unsteady));
  const slowest = [...reports].sort((a, b) => (b.ms ?? 0) - (a.ms ?? 0)).slice(0, SLOWEST_FILES);
  lines.push(
    '',
    'slowest files:',
    ...slowest.map(({ name, ms }) => `${seconds(ms ?? 0).padStart(8)} ${name}`),
  );
  const passed = reports.reduce((sum, report) => sum + report.passed, 0);
  const unsteadyCount = unsteady.length === 0 ? '' : `${unsteady.length} unsteady, `;
  lines.push(
    '',
    `${reports.length} files, ${tests} tests, ${passed} passed, ${failures.length} failed, ${unsteadyCount}${seconds(performance.now() - startedAt)}`,
  );
  return `${lines.join('\n')}\n`;
}

function listed(heading, failures) {
  if (failures.length === 0) return [];
  const lines = ['', `==== ${failures.length} ${heading} ====`];
  for (const { file, title, what, error } of failures)
    lines.push(
      '',
      `${file}: ${title}`,
      indent(`${what}: ${typeof error === 'string' ? error : inShort(error)}`),
    );
  return lines;
}
