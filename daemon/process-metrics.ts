// Metrics of the process itself, for Prometheus: prom-client's, but for two.
//
// Its lag of the event loop wakes the process a hundred times a second, which was most of what an idle agent used, and its times
// of garbage collections run JavaScript after each.
import { Gauge, type Registry } from 'prom-client';
import heap from 'prom-client/lib/metrics/heapSizeAndUsed.js';
import heapSpaces from 'prom-client/lib/metrics/heapSpacesSizeAndUsed.js';
import memory from 'prom-client/lib/metrics/osMemoryHeap.js';
import cpu from 'prom-client/lib/metrics/processCpuTotal.js';
import mostFiles from 'prom-client/lib/metrics/processMaxFileDescriptors.js';
import files from 'prom-client/lib/metrics/processOpenFileDescriptors.js';
import resources from 'prom-client/lib/metrics/processResources.js';
import startTime from 'prom-client/lib/metrics/processStartTime.js';
import version from 'prom-client/lib/metrics/version.js';

/** Each is read when somebody asks for the metrics. @param weft its version */
export function collectProcessMetrics(registry: Registry, weft: string): void {
  new Gauge({
    name: 'weft_build_info',
    help: 'Version of this weft.',
    labelNames: ['version', 'nodejs'],
    registers: [registry],
  }).set({ version: weft, nodejs: process.version }, 1);
  for (const collect of [cpu, startTime, memory, files, mostFiles, resources, heap, heapSpaces, version])
    collect(registry);
}
