/** References to native objects; what they refer to is in `addon.ts`. */

declare const handle: unique symbol;
/** A process-wide reference to a native object of one kind. */
export type Handle<Kind extends string> = number & { readonly [handle]: Kind };
export type RingHandle = Handle<'ring'>;
export type ProducerHandle = Handle<'producer'>;
export type ChannelHandle = Handle<'channel'>;
export type SegmentHandle = Handle<'segment'>;
export type DrainHandle = Handle<'drain'>;
export type CursorHandle = Handle<'cursor'>;
export type CopyHandle = Handle<'copy'>;
export type TailHandle = Handle<'tail'>;
export type ReceiverHandle = Handle<'receiver'>;
export type DatagramsHandle = Handle<'datagrams'>;
export type SeriesCacheHandle = Handle<'seriesCache'>;
export type MetricHandle = Handle<'metric'>;
export type RangesHandle = Handle<'ranges'>;
