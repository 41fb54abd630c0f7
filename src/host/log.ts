/** The little that host and registry code asks of a logger. */
export interface WarningLog {
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}
