#include "result_frame.h"

/* {"status": "ok", "records": [ behind four bytes of frame length; the array's length is filled in at the end. */
static const char head[] = "\0\0\0\0\x82\xa6status\xa2ok\xa7records\xdd\0\0\0\0";
#define HEAD_BYTES (sizeof head - 1)

size_t result_frame_begin(struct msgpack_writer *writer) {
  size_t start = writer->length;
  msgpack_write_raw(writer, head, HEAD_BYTES);
  return start;
}

bool result_frame_end(struct msgpack_writer *writer, size_t start, uint32_t records) {
  if (writer->failed) return true;
  size_t body = writer->length - start - 4;
  if (body > UINT32_MAX) return false;
  uint32_t length = (uint32_t)body;
  uint32_t array = __builtin_bswap32(records);
  memcpy(writer->bytes + start, &length, 4);
  memcpy(writer->bytes + start + HEAD_BYTES - 4, &array, 4);
  return true;
}
