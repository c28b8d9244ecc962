// Makes records of containers and changes their attachments.
import { runTarget } from '../../core/run.js';
import type { ContainerRecord } from './container-state.js';
import type { RunRequest } from './run-request.js';

export function newRecord(request: RunRequest, name: string, bootId: string): ContainerRecord {
  // It always has a resolv.conf of its own, and its target is no namespace with a file in /etc/netns.
  const attach = { ...request.attach, network: request.networkText, target: runTarget(name), dns: false };
  const now = new Date().toISOString();
  return {
    id: request.id,
    name,
    network: request.networkText,
    attachments: request.network.kind === 'network' ? [{ request: attach }] : [],
    command: request.command,
    directory: request.directory,
    environment: request.environment,
    detached: request.detached,
    remove: request.remove,
    restart: request.restart,
    stopped: false,
    bootId,
    restarts: 0,
    createdAt: now,
    startedAt: now,
  };
}

export function forgetAttachment(record: ContainerRecord, network: string): void {
  record.attachments = record.attachments.filter(({ request }) => request.network !== network);
}
