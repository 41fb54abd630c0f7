/** Where eventd and kmesd listen when nobody says otherwise; the same as evctl's. */

/** The query socket: as given, else `$EVENTD_SOCKET`, else the usual place. */
export function querySocket(given?: string): string {
  return given ?? fromEnvironment('EVENTD_SOCKET') ?? '/run/eventd/query.sock';
}

/** The log socket: as given, else `$EVENTD_LOG_SOCKET`, else the usual place. */
export function logSocket(given?: string): string {
  return given ?? fromEnvironment('EVENTD_LOG_SOCKET') ?? '/run/eventd/log.sock';
}

/** The metric socket: as given, else `$EVENTD_METRIC_SOCKET`, else the usual place. */
export function metricSocket(given?: string): string {
  return given ?? fromEnvironment('EVENTD_METRIC_SOCKET') ?? '/run/eventd/metric.sock';
}

/** kmesd's directory: as given, else `$EVENTD_KMES_DIR`, else the usual place. */
export function kmesDirectory(given?: string): string {
  return given ?? fromEnvironment('EVENTD_KMES_DIR') ?? '/run/kmes';
}

function fromEnvironment(name: string): string | undefined {
  return process.env[name] || undefined;
}
