/*
 * The peer to beat on the metric path: one prepared INSERT per sample, bound and stepped in a plain C
 * loop in the order of arrival, with the same file, pragmas, batch size and checkpoint rule as
 * eventd's writer, on the very SQLite that better-sqlite3 is linked with. It gets its samples for
 * nothing: nothing is received, decoded or looked up.
 *
 *   metric_insert_loop DATABASE SAMPLES SERIES BATCH START_NS [PRAGMA ...]
 *
 * DATABASE has its schema and the series 1 to SERIES already. Sample i belongs to series
 * 1 + i % SERIES, at START_NS + (i / SERIES) * 15 s + i % SERIES. Checkpoints come from the pragma
 * wal_autocheckpoint. Prints one JSON line: seconds, cpuSeconds.
 */
#include "sqlite_loop.h"

static const char insert_sql[] =
    "INSERT INTO samples(series_id, timestamp, value, histogram_data) VALUES (?1, ?2, ?3, NULL)";

int main(int argc, char **argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: metric_insert_loop DATABASE SAMPLES SERIES BATCH START_NS [PRAGMA ...]\n");
    return 2;
  }
  unsigned long long samples = strtoull(argv[2], NULL, 10), series = strtoull(argv[3], NULL, 10);
  unsigned long long batch = strtoull(argv[4], NULL, 10), start = strtoull(argv[5], NULL, 10);
  if (series == 0 || batch == 0) fail("arguments", "SERIES and BATCH must be above 0");

  struct loop loop = loop_open(argv[1], argv + 6, insert_sql);

  loop_start(&loop);
  for (unsigned long long done = 0; done < samples;) {
    step(&loop, loop.begin, "BEGIN");
    for (unsigned long long i = 0; i < batch && done < samples; i++, done++) {
      sqlite3_bind_int64(loop.insert, 1, (sqlite3_int64)(1 + done % series));
      sqlite3_bind_int64(loop.insert, 2, (sqlite3_int64)(start + done / series * 15000000000u + done % series));
      sqlite3_bind_double(loop.insert, 3, (double)(done % 1009) + 0.25);
      step(&loop, loop.insert, "INSERT");
    }
    step(&loop, loop.commit, "COMMIT");
  }
  loop_finish(&loop);
  return 0;
}
