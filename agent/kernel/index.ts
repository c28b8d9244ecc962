// Linux kernel access: the only code that talks to the kernel.
export { lockNamespace } from './agent-lock.js';
export type { InterfaceLoan, InterfaceLoans } from './bridge-ports.js';
export { openFirewall } from './firewall/index.js';
export type {
  AddressFlaw,
  Announcement,
  Capability,
  Echo,
  FirewallReport,
  PortReservation,
  Kernel,
  LinkCounters,
  KernelEvent,
  KernelNamespace,
  Listener,
  NeighbourTable,
  NextHop,
  ParentLink,
  StepFailure,
  TestNamespace,
  UnderlayLink,
} from './kernel.js';
export { trimMemory } from './libc.js';
export { openKernel } from './linux.js';
export { bootId } from './namespaces.js';
export { DROP_REASONS } from './pump/counters.js';
export { isAlive, processAt, type ProcessId } from './process-id.js';
export { PumpProcesses, type PumpRecord, type PumpRecords } from './pump/processes.js';
export { checkPrivileges } from './privileges.js';
export { enlargeReceiveBuffer } from './socket-buffer.js';
export { peerUid } from './peer-credentials.js';
export type { TraceFilter, TracePacket, TraceProtocol } from './tracing/probe.js';
export type { RuleDrop } from './tracing/rule-trace.js';
export type {
  NamespaceTrace,
  TraceLink,
  TraceNeighbour,
  TraceRoute,
  TraceSighting,
} from './tracing/types.js';
