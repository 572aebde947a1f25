//! The pod runner itself: what it claims to do is seen from inside a pod.

use std::time::Duration;

use redis_sentinel_tests::manifests::parse;
use redis_sentinel_tests::pods::{Ending, Kube, Phase};
use redis_sentinel_tests::{net, wait};

const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: files, namespace: a }
data: { script: "echo from a file" }
binaryData: { bytes: /+8= }
---
apiVersion: v1
kind: Secret
metadata: { name: secret, namespace: a }
data: { word: c2VjcmV0 }
---
apiVersion: batch/v1
kind: Job
metadata: { name: look, namespace: a }
spec:
  backoffLimit: 0
  template:
    metadata: { labels: { app: look } }
    spec:
      restartPolicy: Never
      enableServiceLinks: false
      securityContext: { runAsUser: 1234, runAsGroup: 1235, fsGroup: 1236, runAsNonRoot: true }
      initContainers:
      - { name: first, image: "redis:8", command: [sh, -c, "echo first >/shared/first"], volumeMounts: [{ name: shared, mountPath: /shared }] }
      containers:
      - name: look
        image: redis:8
        command: [sh, -c]
        args:
        - |
          set -e
          echo "pid $$$$ id $(id -u) $(id -g) $(id -G) host $(hostname)"
          grep -E '^(CapBnd|CapEff|NoNewPrivs):' /proc/self/status | tr -s '\t\n' ' '; echo
          echo "word $WORD, name $(NAME), address $ADDRESS, $(sh /files/script), first $(cat /shared/first)"
          od -An -tx1 /files/bytes
          ls -ld /shared | cut -d' ' -f1; stat -Lc %a /files/script /locked/word
          for place in / /files /usr/bin; do touch $place/x 2>/dev/null && echo "wrote $place"; done
          touch /shared/x /data/x && echo "wrote volumes"
          command -v python3 curl ip || echo "no such programs"
        env:
        - { name: WORD, valueFrom: { secretKeyRef: { name: secret, key: word } } }
        - { name: NAME, value: "$(WORD)!" }
        - { name: ADDRESS, valueFrom: { fieldRef: { fieldPath: status.podIP } } }
        securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
        volumeMounts:
        - { name: files, mountPath: /files }
        - { name: locked, mountPath: /locked }
        - { name: shared, mountPath: /shared }
        - { name: claim, mountPath: /data }
      volumes:
      - { name: files, configMap: { name: files } }
      - { name: locked, secret: { secretName: secret, defaultMode: 256 } }
      - { name: shared, emptyDir: {} }
      - { name: claim, persistentVolumeClaim: { claimName: claim } }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: sick, namespace: a }
spec:
  serviceName: sick
  replicas: 1
  selector: { matchLabels: { app: sick } }
  template:
    metadata: { labels: { app: sick } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: sick
        image: redis:8
        # The shell is process 1, and ignores SIGTERM as process 1 does.
        command: [sh, -c, "echo start >>/data/log; touch /tmp/well; while :; do sleep 0.1; done"]
        readinessProbe: { exec: { command: [test, -e, /tmp/well] }, periodSeconds: 1 }
        livenessProbe: { exec: { command: [test, "!", -e, /data/sick] }, periodSeconds: 1, failureThreshold: 2 }
        lifecycle: { preStop: { exec: { command: [sh, -c, "echo stop >>/data/log; rm -f /data/sick"] } } }
        volumeMounts: [{ name: data, mountPath: /data }]
  volumeClaimTemplates: [{ metadata: { name: data } }]
"#;

#[test]
fn a_pod_is_what_its_manifest_says() {
    if net::missing() {
        return;
    }
    let kube = Kube::new().unwrap();
    kube.apply(parse(PODS).unwrap()).unwrap();
    wait::until_true("the Job's end", wait::LONG, || {
        kube.pods_of("Job", "look").first().is_some_and(|pod| {
            pod.status().phase != Phase::Pending
                && pod.status().ready.is_none()
                && pod.status().phase != Phase::Running
        })
    })
    .unwrap();
    let pod = kube.pods_of("Job", "look").remove(0);
    let log = kube.logs(&pod, "look");
    println!("{log}");
    assert_eq!(pod.status().phase, Phase::Succeeded, "{log}");
    let address = pod.status().address.unwrap();
    for line in [
        &format!("pid 1 id 1234 1235 1235 1236 host {}", pod.name()),
        "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1",
        &format!("word secret, name secret!, address {address}, from a file, first first"),
        " ff ef",
        "drwxrwsrwx",
        "644",
        "440",
        "wrote volumes",
        "no such programs",
    ] {
        assert!(
            log.lines().any(|other| other.trim_end() == line),
            "{line:?} is missing in\n{log}"
        );
    }
    assert!(!log.contains("wrote /"), "{log}");

    // A container that is not alive is started again in its pod, with its volume, after its hook.
    let name = "sick-0";
    wait::until_true("readiness", wait::LONG, || {
        kube.pod(name).is_ok_and(|pod| pod.is_ready())
    })
    .unwrap();
    let before = kube.pod(name).unwrap();
    assert!(
        kube.exec(name, "sick", &["touch", "/data/sick"])
            .unwrap()
            .status
            .success()
    );
    wait::until_true("a restart", wait::LONG, || {
        kube.pod(name)
            .is_ok_and(|pod| pod.status().containers["sick"].restarts == 1 && pod.is_ready())
    })
    .unwrap();
    assert_eq!(
        kube.pod(name).unwrap().status().address,
        before.status().address
    );

    // A pod that is deleted comes back with its name and its volume, and another address.
    kube.end_pod(name, Ending::Graceful).unwrap();
    let after = kube.wait_for_new(&before, Duration::from_secs(30)).unwrap();
    assert_ne!(after.status().address, before.status().address);
    let output = kube.exec(name, "sick", &["cat", "/data/log"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["start", "stop", "start", "stop", "start"]
    );
    assert!(
        kube.logs(&before, "sick").contains("by SIGKILL"),
        "process 1 without a handler ignores SIGTERM"
    );

    // What the runner does not know is an error, not silence.
    let unknown = PODS.replace("enableServiceLinks: false", "hostNetwork: true");
    assert!(
        kube.apply(parse(&unknown).unwrap())
            .is_err_and(|error| format!("{error:#}").contains("hostNetwork"))
    );
    let unknown = PODS.replace("redis:8", "example/unknown:1");
    assert!(
        kube.apply(parse(&unknown).unwrap())
            .is_err_and(|error| format!("{error:#}").contains("example/unknown"))
    );
}
