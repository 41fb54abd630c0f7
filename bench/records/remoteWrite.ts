/** A remote-write request of Prometheus: a protocol buffer in a snappy block. */

export interface Series {
  /** In the order of their names, as Prometheus wants them. */
  readonly labels: Readonly<Record<string, string>>;
  readonly samples: readonly { readonly value: number; readonly timestampMs: number }[];
}

/** Protocol buffer wire types. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) | 0x80);
  bytes.push(left);
  return Buffer.from(bytes);
}

function tag(field: number, type: number): Buffer {
  return Buffer.from([(field << 3) | type]);
}

function message(field: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([tag(field, BYTES), varint(content.length), content]);
}

function double(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return bytes;
}

/** `WriteRequest { repeated TimeSeries timeseries = 1; }`, compressed as the protocol demands. */
export function writeRequest(series: readonly Series[]): Buffer {
  const parts = series.map(({ labels, samples }) =>
    message(
      1,
      ...Object.entries(labels).map(([name, value]) =>
        message(1, message(1, Buffer.from(name)), message(2, Buffer.from(value))),
      ),
      ...samples.map(({ value, timestampMs }) =>
        message(2, tag(1, FIXED64), double(value), tag(2, VARINT), varint(timestampMs)),
      ),
    ),
  );
  return snappyBlock(Buffer.concat(parts));
}

/** The longest literal with a length of two bytes. */
const LITERAL_BYTES = 65_536;
/** Tag of a literal whose length, less one, follows in two bytes. */
const LITERAL_TWO_BYTES = 61 << 2;

/** A valid block of literals only: nothing is compressed, and little is left to do for the reader. */
export function snappyBlock(content: Buffer): Buffer {
  const parts: Buffer[] = [varint(content.length)];
  for (let at = 0; at < content.length; at += LITERAL_BYTES) {
    const literal = content.subarray(at, at + LITERAL_BYTES);
    const head = Buffer.alloc(3);
    head[0] = LITERAL_TWO_BYTES;
    head.writeUInt16LE(literal.length - 1, 1);
    parts.push(head, literal);
  }
  return Buffer.concat(parts);
}
