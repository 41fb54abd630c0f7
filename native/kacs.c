#include "kacs.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static long real_kernel(long number, long first, long second, long third) {
  return syscall(number, first, second, third);
}

kacs_kernel kacs_call = real_kernel;

int kacs_open_peer_token(int socket) {
  long token = kacs_call(KACS_OPEN_PEER_TOKEN, socket, 0, 0);
  return token < 0 ? -errno : (int)token;
}

/* A pointer must be null exactly when its length is 0. */
static uint64_t address(const void *data, uint32_t length) {
  return length == 0 ? 0 : (uint64_t)(uintptr_t)data;
}

int kacs_check(const struct kacs_check *check, struct kacs_access_result *results) {
  uint32_t granted = 0;
  /* -1 means the calling process, which is SYSTEM: nobody may get its verdict by a lost descriptor. */
  if (check->token_fd < 0) return -EBADF;
  if (check->sd_len == 0 || check->sd_len > KACS_MAX_SD || check->count > KACS_MAX_NODES ||
      check->claims_len > KACS_MAX_CLAIMS || check->context_len > KACS_MAX_CONTEXT) {
    return -EINVAL;
  }
  struct kacs_access_check_args args = {
      .size = sizeof args,
      .token_fd = check->token_fd,
      .sd_ptr = address(check->sd, check->sd_len),
      .sd_len = check->sd_len,
      .desired_access = check->desired,
      .generic_read = check->mapping[0],
      .generic_write = check->mapping[1],
      .generic_execute = check->mapping[2],
      .generic_all = check->mapping[3],
      .object_tree_ptr = address(check->nodes, check->count),
      .object_tree_count = check->count,
      .local_claims_ptr = address(check->claims, check->claims_len),
      .local_claims_len = check->claims_len,
      .granted_out = (uint64_t)(uintptr_t)&granted,
      .audit_context_ptr = address(check->context, check->context_len),
      .audit_context_len = check->context_len,
  };
  if (check->count > 0) {
    /* Whatever the kernel leaves alone is a refusal. */
    for (uint32_t i = 0; i < check->count; i++) results[i] = (struct kacs_access_result){0, -EACCES};
    long result = kacs_call(KACS_ACCESS_CHECK_LIST, (long)&args, (long)results, check->count);
    return result < 0 ? -errno : 0;
  }
  /* The mask comes back in a long: every value from 0 up is one (ACL-59). */
  long result = kacs_call(KACS_ACCESS_CHECK, (long)&args, 0, 0);
  if (result < 0 && errno != EACCES) return -errno;
  results[0] = result < 0 ? (struct kacs_access_result){granted, -EACCES}
                          : (struct kacs_access_result){(uint32_t)result, 0};
  return 0;
}
