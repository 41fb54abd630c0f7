/*
 * The registry calls of the Peios kernel (LCS, HOST-32..41): numbers, structs, and one function per
 * thing eventd asks of a key. Needs nothing of Node. Calls can block for half a minute: never on the
 * JavaScript thread.
 */
#ifndef EVENTD_LCS_H
#define EVENTD_LCS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
  LCS_OPEN_KEY = 1100,
  LCS_CREATE_KEY = 1101,

  /* Rights (HOST-33). */
  LCS_KEY_SET_VALUE = 0x2,
  LCS_KEY_CREATE_SUB_KEY = 0x4,
  LCS_KEY_READ = 0x00020019, /* READ_CONTROL, query value, enumerate, notify */

  /* Changes that a watch tells of (HOST-39). Lost events and the key's own end come unasked. */
  LCS_WATCH_VALUES = 1,
  LCS_WATCH_SUBKEYS = 2,

  LCS_CREATED = 1, /* disposition of a key that was not there */

  /* Names and components (HOST-27); what a value may hold is the kernel's to limit. */
  LCS_MAX_NAME = 255,
  /* No answer may need more: a wrong size must not become an allocation. */
  LCS_MAX_ANSWER = 64 << 20,
  /* Values may grow between two passes (HOST-36), but not for ever. */
  LCS_PASSES = 8,
  LCS_MAX_SUBKEYS = 1 << 16,
};

#define LCS_QUERY_VALUE 0xC0405200u
#define LCS_SET_VALUE 0x40405201u
#define LCS_DELETE_VALUE 0x40285202u
#define LCS_QUERY_VALUES_BATCH 0xC0185204u
#define LCS_ENUM_SUBKEYS 0xC0285206u
#define LCS_NOTIFY 0x4008520Cu

struct lcs_create_key_args {
  int32_t parent; /* -1: the path is absolute */
  uint32_t pad0;
  uint64_t path; /* ends with NUL */
  uint32_t access, flags;
  uint64_t layer; /* 0 = base */
  int32_t txn;    /* -1 = none, here and below */
  uint32_t pad1;
  uint64_t disposition;
};

struct lcs_query_value_args {
  uint32_t name_len, pad0;
  uint64_t name;
  uint32_t type;     /* out */
  uint32_t data_len; /* in: room, out: length */
  int32_t txn;
  uint32_t layer_buf_len;
  uint64_t data;
  uint64_t seq;       /* out */
  uint32_t layer_len; /* out */
  uint32_t pad1;
  uint64_t layer;
};

struct lcs_set_value_args {
  uint32_t name_len, pad0;
  uint64_t name;
  uint32_t type, data_len;
  uint64_t data;
  uint32_t layer_len, pad1;
  uint64_t layer;
  int32_t txn;
  uint32_t pad2;
  uint64_t expected_seq; /* 0 = unconditional */
};

struct lcs_delete_value_args {
  uint32_t name_len, pad0;
  uint64_t name;
  uint32_t layer_len, pad1;
  uint64_t layer;
  int32_t txn;
  uint32_t pad2;
};

struct lcs_query_batch_args {
  uint32_t buf_len; /* in: room, out: length */
  uint32_t count;   /* out */
  uint64_t buf;
  int32_t txn;
  uint32_t pad0;
};

struct lcs_enum_subkeys_args {
  uint32_t index, name_len; /* in: room, out: length */
  uint64_t name;
  uint64_t mtime;            /* out */
  uint32_t subkeys, values; /* out */
  int32_t txn;
  uint32_t pad0;
};

struct lcs_notify_args {
  uint32_t filter;
  uint8_t subtree, pad[3];
};

#define LCS_AT(type, member, offset) \
  _Static_assert(offsetof(struct type, member) == (offset), #type "." #member)
LCS_AT(lcs_create_key_args, path, 8);
LCS_AT(lcs_create_key_args, access, 16);
LCS_AT(lcs_create_key_args, flags, 20);
LCS_AT(lcs_create_key_args, layer, 24);
LCS_AT(lcs_create_key_args, txn, 32);
LCS_AT(lcs_create_key_args, disposition, 40);
LCS_AT(lcs_query_value_args, name, 8);
LCS_AT(lcs_query_value_args, type, 16);
LCS_AT(lcs_query_value_args, data_len, 20);
LCS_AT(lcs_query_value_args, txn, 24);
LCS_AT(lcs_query_value_args, layer_buf_len, 28);
LCS_AT(lcs_query_value_args, data, 32);
LCS_AT(lcs_query_value_args, seq, 40);
LCS_AT(lcs_query_value_args, layer_len, 48);
LCS_AT(lcs_query_value_args, layer, 56);
LCS_AT(lcs_set_value_args, name, 8);
LCS_AT(lcs_set_value_args, type, 16);
LCS_AT(lcs_set_value_args, data_len, 20);
LCS_AT(lcs_set_value_args, data, 24);
LCS_AT(lcs_set_value_args, layer_len, 32);
LCS_AT(lcs_set_value_args, layer, 40);
LCS_AT(lcs_set_value_args, txn, 48);
LCS_AT(lcs_set_value_args, expected_seq, 56);
LCS_AT(lcs_delete_value_args, name, 8);
LCS_AT(lcs_delete_value_args, layer_len, 16);
LCS_AT(lcs_delete_value_args, layer, 24);
LCS_AT(lcs_delete_value_args, txn, 32);
LCS_AT(lcs_query_batch_args, count, 4);
LCS_AT(lcs_query_batch_args, buf, 8);
LCS_AT(lcs_query_batch_args, txn, 16);
LCS_AT(lcs_enum_subkeys_args, name_len, 4);
LCS_AT(lcs_enum_subkeys_args, name, 8);
LCS_AT(lcs_enum_subkeys_args, mtime, 16);
LCS_AT(lcs_enum_subkeys_args, subkeys, 24);
LCS_AT(lcs_enum_subkeys_args, values, 28);
LCS_AT(lcs_enum_subkeys_args, txn, 32);
LCS_AT(lcs_notify_args, subtree, 4);
#define LCS_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
LCS_SIZE(lcs_create_key_args, 48);
LCS_SIZE(lcs_query_value_args, 64);
LCS_SIZE(lcs_set_value_args, 64);
LCS_SIZE(lcs_delete_value_args, 40);
LCS_SIZE(lcs_query_batch_args, 24);
LCS_SIZE(lcs_enum_subkeys_args, 40);
LCS_SIZE(lcs_notify_args, 8);
#undef LCS_AT
#undef LCS_SIZE

/* How the kernel is reached, each as its namesake of libc. Tests put a kernel of their own here. */
struct lcs_kernel {
  long (*call)(long number, long first, long second, long third, long fourth);
  int (*control)(int key, unsigned long request, void *args);
  ssize_t (*read)(int key, void *buffer, size_t size);
};
extern struct lcs_kernel lcs_kernel;

/* A string that is counted, not ended. */
struct lcs_text {
  const uint8_t *bytes;
  uint32_t length;
};

/* Something the kernel filled; `bytes` is the caller's to free, also after a failure. */
struct lcs_answer {
  uint8_t *bytes;
  uint32_t length;
  uint32_t type;  /* of one value */
  uint32_t count; /* of a batch, of subkeys */
};

/*
 * All of these return 0 (or a descriptor) or a negative errno: that of the kernel, EPROTO for an answer
 * that contradicts itself, E2BIG for one beyond LCS_MAX_ANSWER, EAGAIN for one that kept on growing.
 */

int lcs_open_key(const char *path, uint32_t access);
/* Creates the last component; `created` tells whether it was missing. Closes what it opened. */
int lcs_create_key(const char *path, bool *created);
int lcs_query_value(int key, struct lcs_text name, struct lcs_answer *value);
/* Every value in one consistent snapshot (HOST-37); read it with `lcs_next_value`. */
int lcs_query_values(int key, struct lcs_answer *values);
/* Names one behind the other, each as u16 length and bytes. One may be there twice if keys come and go. */
int lcs_list_subkeys(int key, struct lcs_answer *names);
int lcs_set_value(int key, struct lcs_text name, uint32_t type, struct lcs_text data);
int lcs_delete_value(int key, struct lcs_text name);
/* Opens a key for watching everything below it; reads of the descriptor never block. */
int lcs_watch(const char *path);
/* Whole records as far as they fit; EAGAIN when there is none, EIO when the watch is over. */
int lcs_read_watch(int key, struct lcs_answer *records);

/* One value of a batch, inside its bytes. */
struct lcs_value {
  struct lcs_text name, data;
  uint32_t type;
};

/* The value at `*at`, which moves behind it; false when what is left holds none. */
bool lcs_next_value(const struct lcs_answer *values, uint32_t *at, struct lcs_value *value);

/* Types of watch records (HOST-42). */
enum lcs_change {
  LCS_VALUE_SET = 1,
  LCS_VALUE_DELETED = 2,
  LCS_SUBKEY_CREATED = 3,
  LCS_SUBKEY_DELETED = 4,
  LCS_SD_CHANGED = 5,
  LCS_KEY_DELETED = 6,
  LCS_OVERFLOW = 7,
};

/* A record of a subtree watch, inside its bytes. */
struct lcs_record {
  uint16_t type;
  uint16_t depth; /* components from the watched key down to the changed one */
  struct lcs_text name;
  struct lcs_text path; /* `depth` components, each as u16 length and bytes */
};

/*
 * The record at `*at`, which moves behind it by the length it says of itself. False when what is left
 * is none: what else it would have told is unknown then.
 */
bool lcs_next_record(const struct lcs_answer *records, uint32_t *at, struct lcs_record *record);
/* The component at `*at` of a record's path; false behind the last. */
bool lcs_next_component(struct lcs_text path, uint32_t *at, struct lcs_text *component);

#endif
