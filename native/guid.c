/* GUID text. The first three groups are little-endian numbers in the 16 bytes (QL-18). */
#include "record.h"

/* Which byte each pair of hex digits shows, and -1 where a hyphen stands. */
static const int8_t layout[20] = {3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15};

void guid_format(char out[GUID_TEXT_LENGTH], const uint8_t guid[16]) {
  static const char digits[] = "0123456789abcdef";
  *out++ = '{';
  for (size_t i = 0; i < sizeof layout; i++) {
    if (layout[i] < 0) {
      *out++ = '-';
    } else {
      *out++ = digits[guid[layout[i]] >> 4];
      *out++ = digits[guid[layout[i]] & 15];
    }
  }
  *out = '}';
}

static int digit(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool guid_parse(uint8_t guid[16], const uint8_t *text, size_t length) {
  if (length == GUID_TEXT_LENGTH) {
    if (text[0] != '{' || text[length - 1] != '}') return false;
    text++;
    length -= 2;
  }
  if (length != GUID_TEXT_LENGTH - 2) return false;
  for (size_t i = 0; i < sizeof layout; i++) {
    if (layout[i] < 0) {
      if (*text++ != '-') return false;
      continue;
    }
    int high = digit(text[0]);
    int low = digit(text[1]);
    if (high < 0 || low < 0) return false;
    guid[layout[i]] = (uint8_t)(high << 4 | low);
    text += 2;
  }
  return true;
}
