/** Where kmesd's parts send their one-line messages; pino's level methods fit. */
export interface Report {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}
