/**
 * The parsed form of every query. All nodes are immutable; spans count characters (code points)
 * from 1, `end` is the character after the last one.
 */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A field, label key or payload path as written (QL-7). */
export interface FieldRef {
  readonly name: string;
  /** The dotted segments; in METRIC queries always the whole name, as labels have no paths (QL-43). */
  readonly path: readonly string[];
  readonly span: Span;
}

export type TimeUnit = 's' | 'm' | 'h' | 'd';

/** A time literal before the clock is read (QL-10, QL-11). */
export type TimeLiteral =
  | {
      readonly kind: 'relative';
      readonly amount: bigint;
      readonly unit: TimeUnit;
      readonly direction: 'ago' | 'hence';
      readonly span: Span;
    }
  | { readonly kind: 'day'; readonly day: 'today' | 'yesterday'; readonly span: Span }
  /** `ns` since the Unix epoch, not yet clamped. */
  | { readonly kind: 'instant'; readonly ns: bigint; readonly span: Span };

export interface StringLiteral {
  readonly kind: 'string';
  readonly value: string;
  readonly span: Span;
}

/** -2^63 .. 2^64-1 (QL-14). */
export interface IntegerLiteral {
  readonly kind: 'integer';
  readonly value: bigint;
  readonly span: Span;
}

export interface FloatLiteral {
  readonly kind: 'float';
  readonly value: number;
  readonly span: Span;
}

export type NumberLiteral = IntegerLiteral | FloatLiteral;

/** A value of a WHERE predicate. Aliases are resolved; GUID fields carry parsed GUIDs. */
export type Literal =
  | StringLiteral
  | NumberLiteral
  | { readonly kind: 'boolean'; readonly value: boolean; readonly span: Span }
  | { readonly kind: 'time'; readonly time: TimeLiteral; readonly span: Span }
  /** 16 bytes in the stored mixed-endian layout (QL-18). */
  | { readonly kind: 'guid'; readonly bytes: Uint8Array; readonly span: Span }
  | { readonly kind: 'alias'; readonly name: string; readonly value: bigint; readonly span: Span };

export type CompareOperator = '==' | '!=' | '>' | '>=' | '<' | '<=';
export type StringOperator = 'STARTS_WITH' | 'ENDS_WITH' | 'CONTAINS';

export type Predicate =
  | {
      readonly kind: 'compare';
      readonly field: FieldRef;
      readonly operator: CompareOperator;
      readonly value: Literal;
      readonly span: Span;
    }
  | {
      readonly kind: 'match';
      readonly field: FieldRef;
      readonly operator: StringOperator;
      readonly value: StringLiteral;
      readonly span: Span;
    }
  | {
      readonly kind: 'in';
      readonly field: FieldRef;
      readonly negated: boolean;
      readonly values: readonly Literal[];
      readonly span: Span;
    }
  | { readonly kind: 'null'; readonly field: FieldRef; readonly negated: boolean; readonly span: Span };

/** A name in which `*` stands for any run of characters; nothing else is special (QL-60). */
export interface NamePattern {
  readonly kind: 'equal' | 'prefix' | 'glob';
  /** The name as written, `*` included; for `prefix` without the trailing `*`. */
  readonly text: string;
  readonly span: Span;
}

/** One condition on a label inside brackets (QL-84). */
export type Selector =
  | {
      readonly kind: 'compare';
      readonly label: FieldRef;
      readonly operator: '==' | '!=' | StringOperator;
      readonly value: StringLiteral;
      readonly span: Span;
    }
  | {
      readonly kind: 'in';
      readonly label: FieldRef;
      readonly negated: boolean;
      readonly values: readonly StringLiteral[];
      readonly span: Span;
    }
  | { readonly kind: 'null'; readonly label: FieldRef; readonly negated: boolean; readonly span: Span };

/** The numeric condition of a METRIC filter (QL-111). */
export type MetricTest =
  | { readonly kind: 'compare'; readonly operator: CompareOperator; readonly value: NumberLiteral }
  | { readonly kind: 'in'; readonly negated: boolean; readonly values: readonly NumberLiteral[] };

/** A WHERE term that looks into another store (QL-110). */
export type CrossFilter =
  | {
      readonly kind: 'metricFilter';
      readonly name: NamePattern;
      /** Null = no brackets: the average over all series. */
      readonly brackets: readonly Selector[] | null;
      readonly test: MetricTest;
      readonly span: Span;
    }
  | { readonly kind: 'eventFilter'; readonly pattern: NamePattern; readonly span: Span }
  | {
      readonly kind: 'logFilter';
      readonly origin: string;
      readonly containing: string | null;
      readonly span: Span;
    };

/** A boolean expression; `and` and `or` are flat lists of two or more terms (QL-22). */
export type Condition =
  | { readonly kind: 'and'; readonly terms: readonly Condition[] }
  | { readonly kind: 'or'; readonly terms: readonly Condition[] }
  | Predicate
  | CrossFilter;

export interface SortKey {
  readonly field: FieldRef;
  readonly descending: boolean;
}

export type NumericFunction = 'SUM' | 'AVG' | 'MIN' | 'MAX';

/** What is computed per group: COUNT, or a function of one field. */
export type AggregateFunction =
  | { readonly kind: 'COUNT' }
  | { readonly kind: NumericFunction; readonly argument: FieldRef };

export type Aggregation =
  | { readonly kind: 'countBy'; readonly field: FieldRef; readonly span: Span }
  | { readonly kind: 'top'; readonly limit: bigint; readonly field: FieldRef; readonly span: Span }
  | { readonly kind: 'distinct'; readonly field: FieldRef; readonly span: Span }
  | {
      readonly kind: 'group';
      readonly fields: readonly FieldRef[];
      readonly function: AggregateFunction;
      readonly span: Span;
    }
  | { readonly kind: 'bare'; readonly function: AggregateFunction; readonly span: Span };

/** The clauses every mode shares. */
export interface CommonClauses {
  readonly since: TimeLiteral | null;
  readonly until: TimeLiteral | null;
  /** All WHERE clauses ANDed (QL-40). */
  readonly where: Condition | null;
  /** All SELECT clauses joined, duplicates collapsed (QL-62); null = no SELECT. */
  readonly select: readonly FieldRef[] | null;
  readonly sort: readonly SortKey[];
  readonly skip: bigint | null;
  readonly take: bigint | null;
}

export interface EventsQuery extends CommonClauses {
  readonly mode: 'EVENTS';
  readonly pattern: NamePattern | null;
  readonly aggregation: Aggregation | null;
  readonly stream: boolean;
}

export interface LogsQuery extends CommonClauses {
  readonly mode: 'LOGS';
  readonly from: readonly StringLiteral[] | null;
  readonly errorOnly: boolean;
  readonly containing: readonly StringLiteral[];
  readonly aggregation: Aggregation | null;
  readonly stream: boolean;
}

export type ValueFunction = 'RATE' | 'DELTA' | 'P50' | 'P95' | 'P99' | NumericFunction;
export type WindowFunction = 'AVG_OVER' | 'MIN_OVER' | 'MAX_OVER';

export interface MetricQuery extends CommonClauses {
  readonly mode: 'METRIC';
  readonly name: NamePattern;
  /** Null = no brackets; empty = each label combination separately (QL-86). */
  readonly brackets: readonly Selector[] | null;
  readonly valueFunction: ValueFunction | null;
  readonly window: { readonly function: WindowFunction; readonly ns: bigint; readonly span: Span } | null;
}

/** The administrative command `EVENTS INDEX f` (QL-72). */
export interface IndexCommand {
  readonly mode: 'INDEX';
  readonly field: FieldRef;
}

export type Query = EventsQuery | LogsQuery | MetricQuery | IndexCommand;
