/** Object type lists: their shape, and what grants and denials do to their nodes (ACL-72, ACL-76..79). */
import { guidKey } from './fieldGuid.js';

/** One entry of a list: the root at level 0, fields below it (ACL-19). */
export interface ObjectNode {
  readonly level: number;
  /** 16 bytes, mixed-endian (ACL-20). */
  readonly guid: Uint8Array;
}

/** Largest list the kernel takes (ACL-25). */
export const MAX_NODES = 1024;

/** The relations of a valid list. Nodes stand in the order of the list: a parent before its children. */
export interface ObjectTree {
  readonly size: number;
  /** Index of each node's parent; -1 for the root. */
  readonly parents: Int32Array;
  /** One past the last node below each node. */
  readonly ends: Int32Array;
  readonly indexOf: ReadonlyMap<string, number>;
}

const trees = new WeakMap<readonly ObjectNode[], ObjectTree | null>();

/** The tree of a list, or null when it breaks a rule of ACL-72. Remembered per list. */
export function treeOf(nodes: readonly ObjectNode[]): ObjectTree | null {
  let tree = trees.get(nodes);
  if (tree === undefined) {
    tree = buildTree(nodes);
    trees.set(nodes, tree);
  }
  return tree;
}

function buildTree(nodes: readonly ObjectNode[]): ObjectTree | null {
  if (nodes.length === 0 || nodes.length > MAX_NODES) return null;
  const parents = new Int32Array(nodes.length);
  const ends = new Int32Array(nodes.length);
  const indexOf = new Map<string, number>();
  /** Index of the node that is open at each level. */
  const open: number[] = [];
  const closeFrom = (level: number, end: number): void => {
    for (const index of open.splice(level)) ends[index] = end;
  };
  for (const [index, { level, guid }] of nodes.entries()) {
    if (guid.length !== 16 || level > open.length || (level === 0) !== (index === 0)) return null;
    closeFrom(level, index);
    parents[index] = open[level - 1] ?? -1;
    open.push(index);
    indexOf.set(guidKey(guid), index);
  }
  closeFrom(0, nodes.length);
  return indexOf.size === nodes.length ? { size: nodes.length, parents, ends, indexOf } : null;
}

/** A check without a list has one node that stands for the whole object. */
export const SCALAR_TREE: ObjectTree = {
  size: 1,
  parents: Int32Array.of(-1),
  ends: Int32Array.of(1),
  indexOf: new Map(),
};

/** What is decided and granted per node during one walk. The first writer of a bit wins (ACL-78). */
export class NodeStates {
  readonly decided: Uint32Array;
  readonly granted: Uint32Array;

  constructor(
    private readonly tree: ObjectTree,
    decided = 0,
    granted = 0,
  ) {
    this.decided = new Uint32Array(tree.size).fill(decided);
    this.granted = new Uint32Array(tree.size).fill(granted);
  }

  /** Grants to every node what is not decided yet. */
  allowAll(mask: number): void {
    for (let index = 0; index < this.tree.size; index++) this.#allow(index, mask);
  }

  denyAll(mask: number): void {
    for (let index = 0; index < this.tree.size; index++) this.#decide(index, mask);
  }

  /** Grants to a node and all below it; a parent gains what all of its children have. */
  allowBelow(target: number, mask: number): void {
    const { parents, ends } = this.tree;
    const end = ends[target] ?? 0;
    for (let index = target; index < end; index++) this.#allow(index, mask);
    for (let parent = parents[target] ?? -1; parent >= 0; parent = parents[parent] ?? -1) {
      const gained = this.#commonToChildren(parent);
      if (gained === 0) break;
      this.#allow(parent, gained);
    }
  }

  /** Denies to a node and all below it; what is newly denied climbs to every ancestor. */
  denyBelow(target: number, mask: number): void {
    const { parents, ends } = this.tree;
    const end = ends[target] ?? 0;
    let denied = 0;
    for (let index = target; index < end; index++) denied |= this.#decide(index, mask);
    for (let parent = parents[target] ?? -1; parent >= 0; parent = parents[parent] ?? -1) {
      this.#decide(parent, denied);
    }
  }

  #commonToChildren(parent: number): number {
    const { ends } = this.tree;
    const end = ends[parent] ?? 0;
    let common = 0xffffffff;
    for (let child = parent + 1; child < end; child = ends[child] ?? end) common &= this.granted[child] ?? 0;
    return common >>> 0;
  }

  #allow(index: number, mask: number): void {
    this.granted[index] = (this.granted[index] ?? 0) | this.#decide(index, mask);
  }

  /** Marks what is not decided yet as decided and returns those bits. */
  #decide(index: number, mask: number): number {
    const before = this.decided[index] ?? 0;
    this.decided[index] = before | mask;
    return mask & ~before;
  }
}
