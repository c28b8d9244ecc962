# weft as an image: the controller, the agent, the command, and etcd for a cluster that has none. It has what weft's package has,
# made from a checkout:
#   docker build -t weft .
# What a base image has already (packages, node_modules in /opt/weft) is not fetched again.
ARG WEFT_BASE=node:20-bookworm-slim
ARG WEFT_RUNTIME=debian:bookworm-slim

FROM ${WEFT_BASE} AS build
RUN command -v strip >/dev/null || { apt-get update && apt-get install -y --no-install-recommends binutils; }
WORKDIR /opt/weft
COPY package.json package-lock.json ./
RUN [ -d node_modules ] || npm ci --no-audit --no-fund
COPY . .
RUN [ -d node_modules/.cache/weft-node ] || bash scripts/other-nodes.sh
RUN npm run build && node build/bundle/package/main.js --quick

FROM ${WEFT_RUNTIME}
# libnftables and iptables: the rules of the agent. nft and iproute2: for people who look. etcd: for a controller that runs one.
RUN { command -v nft && command -v iptables && command -v etcd; } >/dev/null || \
    { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && \
      apt-get update && apt-get install -y --no-install-recommends libnftables1 nftables iptables iproute2 etcd-server && \
      rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d; }
RUN rm -rf /opt/weft
COPY --from=build /opt/weft/dist/.work/deb-*/usr /usr
ENTRYPOINT ["weft"]
CMD ["help"]
