#include "../kacs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"

/* A kernel that keeps what it was asked and answers what the case wants. */
static struct {
  long number, first, third;
  uint8_t args[sizeof(struct kacs_access_check_args)];
  struct kacs_access_result *results;
  long answer;
  int error;
  uint32_t granted_out;
} kernel;

static uint64_t u64_at(size_t offset) {
  uint64_t value;
  memcpy(&value, kernel.args + offset, sizeof value);
  return value;
}

static uint32_t u32_at(size_t offset) {
  uint32_t value;
  memcpy(&value, kernel.args + offset, sizeof value);
  return value;
}

static long fake(long number, long first, long second, long third) {
  kernel.number = number;
  kernel.first = first;
  kernel.third = third;
  if (number != KACS_OPEN_PEER_TOKEN) {
    memcpy(kernel.args, (const void *)first, sizeof kernel.args);
    *(uint32_t *)(uintptr_t)u64_at(88) = kernel.granted_out;
  }
  if (number == KACS_ACCESS_CHECK_LIST) {
    kernel.results = (struct kacs_access_result *)second;
    if (kernel.answer == 0) kernel.results[1] = (struct kacs_access_result){3, 0};
  }
  errno = kernel.error;
  return kernel.answer;
}

static const uint8_t SD[] = {1, 2, 3, 4};
static const uint8_t CLAIMS[] = {9, 9};
static const struct kacs_object_entry NODES[] = {{.level = 0, .guid = {7}}, {.level = 1, .guid = {8}}};

static struct kacs_check check_of(uint32_t nodes) {
  return (struct kacs_check){
      .token_fd = 5,
      .sd = SD,
      .sd_len = sizeof SD,
      .desired = 1,
      .mapping = {0x20001, 0x20002, 0x20003, 0xf0003},
      .nodes = nodes > 0 ? NODES : NULL,
      .count = nodes,
      .claims = CLAIMS,
      .claims_len = sizeof CLAIMS,
      .context = "events:a",
      .context_len = 8,
  };
}

static void answers(long answer, int error) {
  memset(&kernel, 0, sizeof kernel);
  kernel.answer = answer;
  kernel.error = error;
  kacs_call = fake;
}

static void arguments(void) {
  title("[ACL-15] [ACL-53] [CFG-91] every field of the argument block stands at its offset, padding zero");
  answers(0, 0);
  struct kacs_access_result results[2];
  struct kacs_check check = check_of(2);
  EXPECT(kacs_check(&check, results) == 0);
  EXPECT(kernel.number == 1024 && kernel.third == 2 && kernel.results == results);
  EXPECT(u32_at(0) == 136 && u32_at(4) == 5);
  EXPECT(u64_at(8) == (uintptr_t)SD && u32_at(16) == sizeof SD && u32_at(20) == 1);
  EXPECT(u32_at(24) == 0x20001 && u32_at(28) == 0x20002 && u32_at(32) == 0x20003 && u32_at(36) == 0xf0003);
  EXPECT(u64_at(40) == 0 && u32_at(48) == 0 && u32_at(52) == 0);
  EXPECT(u64_at(56) == (uintptr_t)NODES && u32_at(64) == 2 && u32_at(68) == 0);
  EXPECT(u64_at(72) == (uintptr_t)CLAIMS && u32_at(80) == sizeof CLAIMS && u32_at(84) == 0);
  EXPECT(u64_at(88) != 0 && u32_at(96) == 0 && u32_at(100) == 0);
  EXPECT(u64_at(104) == (uintptr_t)check.context && u32_at(112) == 8 && u32_at(116) == 0);
  EXPECT(u64_at(120) == 0 && u64_at(128) == 0);
  /* The fake kernel left node 0 alone. */
  EXPECT(results[0].status == -EACCES && results[1].status == 0 && results[1].granted == 3);
}

static void absent_parts(void) {
  title("[ACL-40] [CFG-91] pointer and length of an absent part are both zero, and limits hold before the call");
  answers(1, 0);
  struct kacs_access_result result;
  struct kacs_check check = check_of(0);
  check.claims_len = check.context_len = 0;
  EXPECT(kacs_check(&check, &result) == 0);
  EXPECT(kernel.number == 1023);
  EXPECT(u64_at(56) == 0 && u32_at(64) == 0 && u64_at(72) == 0 && u32_at(80) == 0 && u64_at(104) == 0);
  memset(&kernel, 0, sizeof kernel);
  struct kacs_check bad = check_of(2);
  bad.sd_len = 0;
  EXPECT(kacs_check(&bad, &result) == -EINVAL);
  bad = check_of(2);
  bad.sd_len = 65536;
  EXPECT(kacs_check(&bad, &result) == -EINVAL);
  bad = check_of(2);
  bad.count = 1025;
  EXPECT(kacs_check(&bad, &result) == -EINVAL);
  bad = check_of(2);
  bad.context_len = 4097;
  EXPECT(kacs_check(&bad, &result) == -EINVAL);
  bad = check_of(2);
  bad.token_fd = -1;
  EXPECT(kacs_check(&bad, &result) == -EBADF);
  EXPECT(kernel.number == 0);
}

static void single(void) {
  title("[ACL-59] [ACL-40] any result from 0 up is a granted mask; EACCES is a refusal, the rest failures");
  struct kacs_access_result result;
  struct kacs_check check = check_of(0);
  answers(0, EPERM);
  EXPECT(kacs_check(&check, &result) == 0 && result.status == 0 && result.granted == 0);
  answers((long)0xffffffff, 0);
  EXPECT(kacs_check(&check, &result) == 0 && result.status == 0 && result.granted == 0xffffffff);
  answers(-1, EACCES);
  kernel.granted_out = 0x20000;
  EXPECT(kacs_check(&check, &result) == 0 && result.status == -EACCES && result.granted == 0x20000);
  answers(-1, EINVAL);
  EXPECT(kacs_check(&check, &result) == -EINVAL);
  struct kacs_access_result results[2];
  struct kacs_check list = check_of(2);
  answers(-1, EACCES);
  EXPECT(kacs_check(&list, results) == -EACCES);
}

static void peer_token(void) {
  title("[ACL-26] [CFG-91] the peer's token comes from call 1010 on the socket");
  answers(17, 0);
  EXPECT(kacs_open_peer_token(12) == 17);
  EXPECT(kernel.number == 1010 && kernel.first == 12);
  answers(-1, EACCES);
  EXPECT(kacs_open_peer_token(12) == -EACCES);
}

int main(void) {
  kacs_kernel real = kacs_call;
  arguments();
  absent_parts();
  single();
  peer_token();
  kacs_call = real;
  return expect_result();
}
