/** What was thrown, as one text for a log or an operator: the message without a stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
