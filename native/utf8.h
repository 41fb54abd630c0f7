/*
 * UTF-8 checks on bytes that somebody else chose.
 *
 * "Valid" is the definition of RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef EVENTD_UTF8_H
#define EVENTD_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that repairing `n` bytes can need at most: each bad byte becomes the three of U+FFFD. */
#define UTF8_REPAIR_BOUND(n) ((size_t)(n) * 3)

/* True when all `n` bytes are valid UTF-8. NUL counts as an ordinary character. */
bool utf8_valid(const uint8_t *bytes, size_t n);

/*
 * Copies `n` bytes to `out`, each maximal ill-formed part replaced by U+FFFD (the practice of the
 * WHATWG decoder, so that every client sees the same text). Returns the bytes written, at most
 * UTF8_REPAIR_BOUND(n).
 */
size_t utf8_repair(uint8_t *out, const uint8_t *bytes, size_t n);

#endif
