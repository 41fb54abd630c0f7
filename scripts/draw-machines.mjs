// Draws the state charts of docs/machines.md from the machines themselves (compiled, in dist/machines).
//
//   node scripts/draw-machines.mjs               writes docs/machines.md
//   node scripts/draw-machines.mjs --check       fails when docs/machines.md is out of date
//   --out FILE                                   another file than docs/machines.md
import { writeOrCheck } from './generated-file.mjs';

const MACHINES = [
  ['daemon', 'daemonMachine', 'One per process: start, ready, reload, shutdown.'],
  ['cpuReader', 'cpuReaderMachine', 'One per CPU ring, all in the readers’ thread.'],
  ['shardWriter', 'shardWriterMachine', 'One per shard, each in a thread of its own.'],
  ['shardIndexes', 'shardIndexesMachine', 'One per shard, beside its writer and in the same thread.'],
  [
    'recordWriter',
    'recordWriterMachine',
    'One per store of logs and of metrics, each in a thread of its own.',
  ],
  ['retentionSweeper', 'retentionSweeperMachine', 'One per process, in the maintenance thread.'],
  ['indexAdvisor', 'indexAdvisorMachine', 'One per process, in the maintenance thread.'],
  ['rollupAdvisor', 'rollupAdvisorMachine', 'One per process, in the maintenance thread.'],
  ['querySession', 'querySessionMachine', 'One per connection to the query socket, on the main thread.'],
];

/** Paths below the root as identifiers Mermaid accepts. */
const idOf = (node) => (node.path.length === 0 ? node.key : node.path.join('_'));
const isComposite = (node) => Object.keys(node.states).length > 0;
const isInside = (node, ancestor) => node === ancestor || (node.parent && isInside(node.parent, ancestor));

/** Mermaid ends a label at a line end, and reads `;`, `#` and quotes its own way. */
const label = (text) => text.replace(/\s+/g, ' ').replace(/[;#"]/g, '').replaceAll(':', '∶').trim();
const cell = (text) => text.replaceAll('|', '\\|').replace(/\s+/g, ' ').trim();

const sourceName = ({ src }) => (typeof src === 'string' ? src : (src?.id ?? 'inline'));

function guardText(guard) {
  if (guard === undefined) return '';
  if (typeof guard === 'string') return ` [${guard}]`;
  if (typeof guard === 'function') {
    return ` [${guard
      .toString()
      .replace(/^\s*\(.*?\)\s*=>\s*/s, '')
      .replaceAll("'", '')}]`;
  }
  return ` [${guard.type}]`;
}

/** `done` and `error` of an invocation by the name of what was invoked; delays and `always` in words. */
function eventText(event, source) {
  if (event === '') return 'always';
  const [, ending, id] = /^xstate\.(done|error)\.actor\.(.+)$/s.exec(event) ?? [];
  if (ending !== undefined) {
    const invoked = source.invoke.find((invocation) => invocation.id === id);
    return `${invoked === undefined ? id : sourceName(invoked)} ${ending === 'done' ? 'done' : 'failed'}`;
  }
  const [, delay] = /^xstate\.after\.([^.]+)\..+$/s.exec(event) ?? [];
  if (delay !== undefined) return `after ${/^\d+$/.test(delay) ? `${delay} ms` : delay}`;
  return event;
}

function transitionsOf(node) {
  const all = [...node.transitions.values()].flat();
  const always = (node.always ?? []).map((transition) => ({ ...transition, eventType: '' }));
  return [...new Set([...all, ...always])].map((transition) => ({
    source: node,
    targets: transition.target ?? [],
    text: eventText(transition.eventType, node) + guardText(transition.guard),
    event: eventText(transition.eventType, node),
  }));
}

function nodesOf(node) {
  return [node, ...Object.values(node.states).flatMap(nodesOf)];
}

/** The innermost state around both, where Mermaid wants the arrow written. */
function commonParent(a, b) {
  let parent = a === b ? a.parent : a;
  while (parent && (!isInside(b, parent) || parent === b || parent === a)) parent = parent.parent;
  return parent;
}

/** Arrows of one machine, by the state whose block they are written in. */
function arrowsOf(root) {
  const arrows = new Map();
  const anywhere = new Set();
  for (const node of nodesOf(root)) {
    for (const { targets, text } of transitionsOf(node)) {
      for (const target of targets) {
        // From a state to one inside it: leaves from a node that stands for "wherever it is".
        const inward = target !== node && isInside(target, node);
        if (inward) anywhere.add(node);
        const home = inward ? node : (commonParent(node, target) ?? root);
        const from = inward ? `${idOf(node)}_any` : idOf(node);
        const key = `${from} --> ${idOf(target)}`;
        const block = arrows.get(home) ?? new Map();
        block.set(key, [...new Set([...(block.get(key) ?? []), label(text)])]);
        arrows.set(home, block);
      }
    }
  }
  return { arrows, anywhere };
}

function drawInside(node, chart, indent) {
  const { arrows, anywhere } = chart;
  const pad = '  '.repeat(indent);
  const lines = [];
  const children = Object.values(node.states);
  const childBlocks = children.map((child) => drawState(child, chart, indent));
  if (node.type === 'parallel') {
    lines.push(childBlocks.map((block) => block.join('\n')).join(`\n${pad}--\n`));
  } else {
    for (const child of node.initial?.target ?? []) lines.push(`${pad}[*] --> ${idOf(child)}`);
    lines.push(...childBlocks.flat());
  }
  if (anywhere.has(node)) lines.push(`${pad}state "(any state of ${node.key})" as ${idOf(node)}_any`);
  for (const [arrow, texts] of arrows.get(node) ?? []) lines.push(`${pad}${arrow} : ${texts.join(', ')}`);
  for (const child of children) if (child.type === 'final') lines.push(`${pad}${idOf(child)} --> [*]`);
  return lines;
}

function drawState(node, chart, indent) {
  const pad = '  '.repeat(indent);
  const invoked = node.invoke.map(sourceName);
  const title = invoked.length === 0 ? node.key : `${node.key} (invokes ${invoked.join(', ')})`;
  const head = `${pad}state "${label(title)}" as ${idOf(node)}`;
  if (!isComposite(node)) return [head];
  return [`${head} {`, ...drawInside(node, chart, indent + 1), `${pad}}`];
}

/**
 * One chart, or one per region where the regions of a machine run side by side: Mermaid cannot lay out
 * arrows to composite states inside a region of a chart.
 */
function draw({ root }) {
  const chart = arrowsOf(root);
  const regions = root.type === 'parallel' ? Object.values(root.states) : [root];
  return regions.map((region) => {
    const body = region === root ? drawInside(root, chart, 1) : drawState(region, chart, 1);
    return ['```mermaid', 'stateDiagram-v2', ...body, '```'].join('\n');
  });
}

/** What the chart has no room for: meaning, tags, and events that change no state. */
function tableOf(machine) {
  const rows = nodesOf(machine.root).flatMap((node) => {
    const still = transitionsOf(node)
      .filter(({ targets }) => targets.length === 0)
      .map(({ event }) => `\`${event}\``);
    const name = node.path.length === 0 ? '(everywhere)' : node.path.join('.');
    if (!node.description && still.length === 0 && node.tags.length === 0) return [];
    const cells = [name, node.description ?? '', node.tags.join(', '), [...new Set(still)].join(' ')];
    return [`| ${cells.map(cell).join(' | ')} |`];
  });
  return ['| state | what it means | tags | handled without leaving it |', '|---|---|---|---|', ...rows].join(
    '\n',
  );
}

async function page() {
  const sections = [];
  for (const [file, name, about] of MACHINES) {
    const machine = (await import(new URL(`../dist/machines/${file}.js`, import.meta.url)))[name];
    const delays = Object.keys(machine.implementations.delays);
    sections.push(
      `## ${file}`,
      `${about} Source: [machines/${file}.ts](../machines/${file}.ts).`,
      ...(machine.root.type === 'parallel' ? ['Its regions run in parallel, one chart each.'] : []),
      ...draw(machine),
      ...(delays.length > 0 ? [`Delays: ${delays.map((delay) => `\`${delay}\``).join(', ')}.`] : []),
      tableOf(machine),
    );
  }
  return `${[
    '# State charts',
    'Generated from `machines/` by `node scripts/draw-machines.mjs`; do not edit. An arrow is labelled with its event and, in brackets, its guard. Where a state handles an event for all states inside it, the arrow starts at the state itself or, if it leads inside, at “(any state of …)”.',
    ...sections,
  ].join('\n\n')}\n`;
}

process.exitCode = writeOrCheck(
  new URL('../docs/machines.md', import.meta.url),
  await page(),
  'draw-machines',
);
