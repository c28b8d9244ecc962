// Warnings of a daemon that sends plain text: what a user has chosen, and what it costs.

interface Warning {
  what: string;
  why: string;
  fix: string;
}

/** @param insecure its gRPC is plain text */
export function plainTextWarnings({
  etcd,
  insecure,
}: {
  etcd: readonly string[];
  insecure: boolean;
}): Warning[] {
  const plain = etcd.filter((url) => url.startsWith('http:'));
  return [
    ...(insecure
      ? [
          {
            what: 'the connections between weft’s parts',
            why: 'are plain text (--insecure): who reaches the controller can change every network',
            fix: 'Move the cluster to TLS: start the controller without --insecure, then weft ca init.',
          },
        ]
      : []),
    ...(plain.length > 0
      ? [
          {
            what: `etcd at ${plain.join(', ')}`,
            why: 'is plain text: who reaches it can redirect traffic',
            fix: 'Give it TLS and certificates for its clients, and name it with https:// and --etcd-ca, --etcd-cert and --etcd-key.',
          },
        ]
      : []),
  ];
}
