/** Header columns of an event in the order records show them; `id` and `payload` stand around them. */
export const EVENT_COLUMNS = [
  'timestamp',
  'cpu_id',
  'sequence',
  'origin_class',
  'event_type',
  'effective_token_guid',
  'true_token_guid',
  'process_guid',
  'boot_id',
] as const;

export type EventColumn = (typeof EVENT_COLUMNS)[number];
