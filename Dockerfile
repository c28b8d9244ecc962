# weft as an image: the controller, the agent, the command, and etcd for a cluster that has none. Built from a checkout:
#   docker build -t weft .
# What a base image has already (packages, node_modules in /opt/weft) is not fetched again.
ARG WEFT_BASE=node:20-bookworm-slim

FROM ${WEFT_BASE} AS build
WORKDIR /opt/weft
COPY package.json package-lock.json ./
RUN [ -d node_modules ] || npm ci --no-audit --no-fund
COPY . .
RUN npm run build && npm prune --omit=dev --offline --no-audit --no-fund

FROM ${WEFT_BASE}
# nftables and iptables: the rules of the agent. iproute2: for people who look. etcd: for the service of that name.
RUN { command -v nft && command -v iptables && command -v etcd; } >/dev/null || \
    { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && \
      apt-get update && apt-get install -y --no-install-recommends nftables iptables iproute2 etcd-server && \
      rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d; }
RUN rm -rf /opt/weft
COPY --from=build /opt/weft /opt/weft
RUN ln -sf /opt/weft/bin/weft /usr/local/bin/weft
ENTRYPOINT ["weft"]
CMD ["help"]
