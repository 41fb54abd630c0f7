/* What the parts of the SQLite extension offer to its entry point. Each returns an SQLite result code. */
#ifndef EVENTD_SQLITE_PARTS_H
#define EVENTD_SQLITE_PARTS_H

#include "sqlite3.h"

/* Flags of every data function: usable in indexes, safe in schemas of untrusted files. */
#define PURE_FUNCTION (SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS)

/* The table-valued function kmes_batch. */
int sqlite_batch_register(sqlite3 *db);
/* The table-valued function log_batch. */
int sqlite_log_register(sqlite3 *db);
/* The table-valued function metric_batch. */
int sqlite_metric_register(sqlite3 *db);
/* msgpack_extract, msgpack_kind, msgpack_order, msgpack_guid. */
int sqlite_payload_register(sqlite3 *db);
/* ascii_contains, ascii_starts, ascii_ends, ascii_glob. */
int sqlite_text_register(sqlite3 *db);
/* record_map, sample_record, label_value, wire_bool, wire_guid. */
int sqlite_record_register(sqlite3 *db);
/* in_ranges, ranges_start, ranges_end. */
int sqlite_ranges_register(sqlite3 *db);
/* value_key, msgpack_key and the other functions of aggregation. */
int sqlite_group_register(sqlite3 *db);
/* shown, payload_paths. */
int sqlite_shown_register(sqlite3 *db);
/* eventd_slot, and with it the connection's slot. */
int sqlite_slot_register(sqlite3 *db);
/* The file of the connection's main database; NULL for one in memory. */
sqlite3_file *sqlite_main_file(sqlite3 *db);
/* eventd_file_header. */
int sqlite_file_register(sqlite3 *db);
/* eventd_keep_wal. */
int sqlite_wal_register(sqlite3 *db);
/* eventd_read_ahead. */
int sqlite_read_ahead_register(sqlite3 *db);

#endif
