/* GUID text. The first three groups are little-endian numbers in the 16 bytes (QL-18). */
#include <string.h>

#include "record.h"

/* Which byte each pair of hex digits shows, and -1 where a hyphen stands. */
static const int8_t layout[20] = {3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15};

/* Both hex digits of every byte. */
#define ROW(h) h "0" h "1" h "2" h "3" h "4" h "5" h "6" h "7" h "8" h "9" h "a" h "b" h "c" h "d" h "e" h "f"
static const char pairs[] = ROW("0") ROW("1") ROW("2") ROW("3") ROW("4") ROW("5") ROW("6") ROW("7") ROW("8") ROW("9")
    ROW("a") ROW("b") ROW("c") ROW("d") ROW("e") ROW("f");

/* Four of them are in every event record. */
void guid_format(char out[GUID_TEXT_LENGTH], const uint8_t guid[16]) {
  *out++ = '{';
#pragma GCC unroll 20
  for (size_t i = 0; i < sizeof layout; i++) {
    if (layout[i] < 0) {
      *out++ = '-';
    } else {
      memcpy(out, pairs + 2 * guid[layout[i]], 2);
      out += 2;
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
