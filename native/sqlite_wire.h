/* How SQL functions mark a value for record_map. */
#ifndef EVENTD_SQLITE_WIRE_H
#define EVENTD_SQLITE_WIRE_H

#ifndef SQLITE_RESULT_SUBTYPE
#define SQLITE_RESULT_SUBTYPE 0
#endif

/* A number that stands for a boolean. */
#define SUBTYPE_BOOL 'B'
/* A BLOB that is one msgpack value, copied as it is. */
#define SUBTYPE_MSGPACK 'M'

#endif
