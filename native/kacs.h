/*
 * The access control calls of the Peios kernel (ACL-59, Appendix A of the access control document):
 * numbers, structs, and one function per call. Needs nothing of Node.
 */
#ifndef EVENTD_KACS_H
#define EVENTD_KACS_H

#include <stddef.h>
#include <stdint.h>

enum {
  KACS_OPEN_PEER_TOKEN = 1010,
  KACS_ACCESS_CHECK = 1023,
  KACS_ACCESS_CHECK_LIST = 1024,
  KACS_MAX_SD = 65535,
  KACS_MAX_NODES = 1024,
  KACS_MAX_CLAIMS = 65536,
  KACS_MAX_CONTEXT = 4096,
};

struct kacs_access_check_args {
  uint32_t size;
  int32_t token_fd; /* -1 would check the calling process */
  uint64_t sd_ptr;
  uint32_t sd_len;
  uint32_t desired_access;
  uint32_t generic_read, generic_write, generic_execute, generic_all;
  uint64_t self_sid_ptr;
  uint32_t self_sid_len;
  uint32_t privilege_intent;
  uint64_t object_tree_ptr;
  uint32_t object_tree_count;
  uint32_t pad0;
  uint64_t local_claims_ptr;
  uint32_t local_claims_len;
  uint32_t pad1;
  uint64_t granted_out;
  uint32_t pip_type, pip_trust;
  uint64_t audit_context_ptr;
  uint32_t audit_context_len;
  uint32_t pad2;
  uint64_t continuous_audit_out;
  uint64_t staging_mismatch_out;
};

struct kacs_object_entry {
  uint16_t level, zero;
  uint8_t guid[16];
};

struct kacs_access_result {
  uint32_t granted;
  int32_t status; /* 0 or -EACCES */
};

#define KACS_AT(type, member, offset) \
  _Static_assert(offsetof(struct type, member) == (offset), #type "." #member)
KACS_AT(kacs_access_check_args, token_fd, 4);
KACS_AT(kacs_access_check_args, sd_ptr, 8);
KACS_AT(kacs_access_check_args, sd_len, 16);
KACS_AT(kacs_access_check_args, desired_access, 20);
KACS_AT(kacs_access_check_args, generic_read, 24);
KACS_AT(kacs_access_check_args, generic_all, 36);
KACS_AT(kacs_access_check_args, self_sid_ptr, 40);
KACS_AT(kacs_access_check_args, self_sid_len, 48);
KACS_AT(kacs_access_check_args, privilege_intent, 52);
KACS_AT(kacs_access_check_args, object_tree_ptr, 56);
KACS_AT(kacs_access_check_args, object_tree_count, 64);
KACS_AT(kacs_access_check_args, local_claims_ptr, 72);
KACS_AT(kacs_access_check_args, local_claims_len, 80);
KACS_AT(kacs_access_check_args, granted_out, 88);
KACS_AT(kacs_access_check_args, pip_type, 96);
KACS_AT(kacs_access_check_args, pip_trust, 100);
KACS_AT(kacs_access_check_args, audit_context_ptr, 104);
KACS_AT(kacs_access_check_args, audit_context_len, 112);
KACS_AT(kacs_access_check_args, continuous_audit_out, 120);
KACS_AT(kacs_access_check_args, staging_mismatch_out, 128);
KACS_AT(kacs_object_entry, guid, 4);
KACS_AT(kacs_access_result, status, 4);
_Static_assert(sizeof(struct kacs_access_check_args) == 136, "kacs_access_check_args");
_Static_assert(sizeof(struct kacs_object_entry) == 20, "kacs_object_entry");
_Static_assert(sizeof(struct kacs_access_result) == 8, "kacs_access_result");
#undef KACS_AT

/* One check of a token. Lengths of 0 stand for absent parts; everything stays the caller's. */
struct kacs_check {
  int token_fd;
  const void *sd;
  uint32_t sd_len;
  uint32_t desired;
  uint32_t mapping[4]; /* read, write, execute, all */
  const struct kacs_object_entry *nodes;
  uint32_t count;
  const void *claims;
  uint32_t claims_len;
  const void *context;
  uint32_t context_len;
};

/* Makes a system call the way syscall(2) does. Tests put a kernel of their own here. */
typedef long (*kacs_kernel)(long number, long first, long second, long third);
extern kacs_kernel kacs_call;

/* The token of the peer of a connected socket as a new descriptor, or a negative errno. */
int kacs_open_peer_token(int socket);

/*
 * 1024 where there are nodes, filling one result each; else 1023 and one result, whose `status` tells
 * a refusal. 0, or a negative errno when the check could not be made.
 */
int kacs_check(const struct kacs_check *check, struct kacs_access_result *results);

#endif
