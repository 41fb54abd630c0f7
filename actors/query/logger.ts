/** What the query service needs of a pino logger. */
export interface QueryLogger {
  info(details: object, text: string): void;
  warn(details: object, text: string): void;
  error(details: object, text: string): void;
}
