/** Builds the object type lists of records (ACL-18..25). */
import { parseGuid } from '../host/guid.js';
import { EVENT_COLUMNS } from '../stores/eventColumns.js';
import { fieldGuid } from './fieldGuid.js';
import { MAX_NODES, type ObjectNode } from './objectTree.js';

/** The three independent namespaces of patterns (ACL-5). */
export type DataType = 'events' | 'logs' | 'metrics';

/** A field as segments: a column or label key is one segment, a payload path one per level (ACL-18). */
export type FieldPath = readonly string[];

/** Fields every record of the type has (ACL-19, CFG-85). */
export const FIXED_FIELDS: Readonly<Record<DataType, readonly string[]>> = {
  events: EVENT_COLUMNS,
  logs: ['timestamp', 'origin', 'is_error', 'message', 'boot_id'],
  metrics: ['timestamp', 'name', 'type', 'value'],
};

/** GUIDs of the roots (CFG-84), mixed-endian. */
export const ROOT_GUIDS: Readonly<Record<DataType, Uint8Array>> = {
  events: parseGuid('a1b2c3d4-0001-4000-8000-000000000001'),
  logs: parseGuid('a1b2c3d4-0001-4000-8000-000000000002'),
  metrics: parseGuid('a1b2c3d4-0001-4000-8000-000000000003'),
};

/** Payloads nest less deeply (KMES-47); a field with more segments in its name is nobody's. */
const MAX_FIELD_DEPTH = 64;

/** True for a field that no list can hold. */
export function isTooDeep(path: FieldPath): boolean {
  let depth = path.length;
  for (const segment of path) {
    for (
      let at = segment.indexOf('.');
      at >= 0 && depth <= MAX_FIELD_DEPTH;
      at = segment.indexOf('.', at + 1)
    ) {
      depth++;
    }
  }
  return depth > MAX_FIELD_DEPTH;
}

/** One list of at most 1024 nodes. `names[i]` is the field of node i; the root's name is empty. */
export interface FieldList {
  readonly nodes: readonly ObjectNode[];
  readonly names: readonly string[];
}

/** The name under which a field is granted or denied. */
export function fieldName(path: FieldPath): string {
  return path.join('.');
}

/** A list with nothing but the root: enough where fields cannot differ (ACL-43). */
export function rootList(type: DataType): FieldList {
  return ROOT_LISTS[type];
}

const ROOT_LISTS: Readonly<Record<DataType, FieldList>> = {
  events: { nodes: [{ level: 0, guid: ROOT_GUIDS.events }], names: [''] },
  logs: { nodes: [{ level: 0, guid: ROOT_GUIDS.logs }], names: [''] },
  metrics: { nodes: [{ level: 0, guid: ROOT_GUIDS.metrics }], names: [''] },
};

/** Names of the fixed fields and of those present, parents included, sorted and unique (ACL-22, ACL-44). */
export function fieldNames(type: DataType, present: readonly FieldPath[]): readonly string[] {
  const names = new Set<string>(FIXED_FIELDS[type]);
  for (const path of present) {
    if (isTooDeep(path)) throw new RangeError(`a field has more than ${MAX_FIELD_DEPTH} segments`);
    let name = '';
    for (const [index, segment] of path.entries()) {
      name = index === 0 ? segment : `${name}.${segment}`;
      names.add(name);
    }
  }
  return [...names].sort();
}

/**
 * The lists for a record with these fields besides the fixed ones. More than one where the nodes do not
 * fit: then each repeats the root and the parents it needs, and a repeated node is granted only if it is
 * granted in every list (ACL-25).
 *
 * @param names as `fieldNames` gives them
 */
export function fieldLists(type: DataType, names: readonly string[]): readonly FieldList[] {
  const known = new Set(names);
  const children = new Map<string, string[]>();
  for (const name of names) {
    const parent = type === 'events' ? parentOf(name, known) : '';
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [name]);
    else siblings.push(name);
  }
  const lists: { nodes: ObjectNode[]; names: string[] }[] = [];
  const root: ObjectNode = { level: 0, guid: ROOT_GUIDS[type] };
  let list = { nodes: [root], names: [''] };
  lists.push(list);
  const visit = (name: string, above: readonly string[]): void => {
    if (list.nodes.length >= MAX_NODES) {
      list = {
        nodes: [root, ...above.map((ancestor, index) => ({ level: index + 1, guid: fieldGuid(ancestor) }))],
        names: ['', ...above],
      };
      lists.push(list);
    }
    list.nodes.push({ level: above.length + 1, guid: fieldGuid(name) });
    list.names.push(name);
    for (const child of children.get(name) ?? []) visit(child, [...above, name]);
  };
  for (const name of children.get('') ?? []) visit(name, []);
  return lists;
}

/**
 * The longest beginning of a name, up to a dot, that is a field as well; '' stands for the root. So the key
 * `a.b` beside a key `a` counts as its member: what is denied on `a` holds for both, and the shape of a list
 * depends on nothing but its names (ACL-22, ACL-23). Labels have no members (QL-43).
 */
function parentOf(name: string, known: ReadonlySet<string>): string {
  for (let at = name.lastIndexOf('.'); at > 0; at = name.lastIndexOf('.', at - 1)) {
    const beginning = name.slice(0, at);
    if (known.has(beginning)) return beginning;
  }
  return '';
}
