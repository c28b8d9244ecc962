// Metrics of DNS: queries by result, and times of upstream servers.
//
// Queries are counted in plain numbers and collected at a scrape: at ten thousand a second the cost of a counter with labels
// would show.
import { Counter, Histogram, type Registry } from 'prom-client';

import { RESULTS, type Result } from './responder.js';

export interface DnsMetrics {
  results: Record<Result, number>;
  upstreamSeconds: Histogram<'server'>;
}

export function dnsMetrics(registry: Registry): DnsMetrics {
  const results = Object.fromEntries(RESULTS.map((result) => [result, 0])) as Record<Result, number>;
  const registers = [registry];
  const questions = new Counter({
    name: 'weft_dns_questions_total',
    help: 'DNS queries, by result.',
    labelNames: ['result'],
    registers,
    collect: () => {
      questions.reset();
      for (const result of RESULTS) questions.inc({ result }, results[result]);
    },
  });
  return {
    results,
    upstreamSeconds: new Histogram({
      name: 'weft_dns_upstream_duration_seconds',
      help: 'Time until an upstream name server answered.',
      labelNames: ['server'],
      buckets: [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4],
      registers,
    }),
  };
}
