{{/* What all pods of Visage have in common. */}}

{{- define "visage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "visage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Without the account's token, and without a variable for each Service, whose names would look like settings. */}}
{{- define "visage.podBasics" -}}
serviceAccountName: {{ include "visage.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  {{- include "visage.podSecurity" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Variables of every command: (dict "root" $ "part" "ingest"). */}}
{{- define "visage.env" -}}
- {name: VISAGE_CONFIG, value: /etc/visage/visage.toml}
- {name: VISAGE_LOG_FORMAT, value: json}
- {name: RUST_LOG, value: {{ .root.Values.logLevel | quote }}}
- {name: HOME, value: /tmp}
- {name: GST_REGISTRY, value: /tmp/gstreamer-registry.bin}
{{- if eq .root.Values.mode "cluster" }}
- name: VISAGE_CLUSTER__NODE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- with .root.Values.gallery.qdrant.apiKeySecret }}
{{- if .name }}
- name: VISAGE_GALLERY__QDRANT__API_KEY
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- end }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visage.mounts" -}}
{{- $v := .root.Values -}}
- {name: config, mountPath: /etc/visage/visage.toml, subPath: visage.toml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if include "visage.tlsSecret" .root }}
- {name: tls, mountPath: /etc/visage/tls, readOnly: true}
{{- end }}
{{- if $v.tls.clientCaSecretName }}
- {name: client-ca, mountPath: /etc/visage/client-ca, readOnly: true}
{{- end }}
{{- if $v.storageKey.secretName }}
- {name: key, mountPath: /etc/visage/key, readOnly: true}
{{- end }}
{{- if $v.models.claim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if eq $v.mode "cluster" }}
{{- if $v.cluster.nats.credentialsSecret.name }}
- {name: nats, mountPath: /etc/visage/nats, readOnly: true}
{{- end }}
{{- if $v.cluster.nats.caSecret.name }}
- {name: nats-ca, mountPath: /etc/visage/nats-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* A volume of one key of a Secret: (dict "volume" "key" "secret" "s" "key" "k" "file" "f"). */}}
{{- define "visage.secretVolume" -}}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items: [{key: {{ .key }}, path: {{ .file }}}]
{{- end -}}

{{/* Volumes but `data`: (dict "root" $ "configMap" name). */}}
{{- define "visage.volumes" -}}
{{- $v := .root.Values -}}
- name: config
  configMap: {name: {{ .configMap }}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with include "visage.tlsSecret" .root }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- with $v.tls.clientCaSecretName }}
{{ include "visage.secretVolume" (dict "volume" "client-ca" "secret" . "key" "ca.crt" "file" "ca.crt") }}
{{- end }}
{{- if $v.storageKey.secretName }}
{{ include "visage.secretVolume" (dict "volume" "key" "secret" $v.storageKey.secretName "key" $v.storageKey.key "file" "visage.key") }}
{{- end }}
{{- if $v.models.claim }}
- name: models
  persistentVolumeClaim: {claimName: {{ $v.models.claim }}, readOnly: true}
{{- end }}
{{- if eq $v.mode "cluster" }}
{{- with $v.cluster.nats.credentialsSecret }}
{{- if .name }}
{{ include "visage.secretVolume" (dict "volume" "nats" "secret" .name "key" .key "file" "user.creds") }}
{{- end }}
{{- end }}
{{- with $v.cluster.nats.caSecret }}
{{- if .name }}
{{ include "visage.secretVolume" (dict "volume" "nats-ca" "secret" .name "key" .key "file" "ca.crt") }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The pod of a server: (dict "root" $ "part" "ingest" "values" .Values.ingest). The volume `data` is the caller's. */}}
{{- define "visage.pod" -}}
{{- $v := .root.Values -}}
{{- $name := include "visage.partname" . -}}
{{- $gpu := eq (include "visage.gpu" .) "true" -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne (include "visage.tlsSecret" .root) "") -}}
metadata:
  labels:
    {{- include "visage.labels" . | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Other settings start other pods; a Secret that changes does not (docs/kubernetes.md).
    checksum/config: {{ include "visage.config" . | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "visage.podBasics" .root | nindent 2 }}
  {{- with $v.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if $gpu }}
  {{- with $v.gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- end }}
  {{- if $v.topologySpreadConstraints }}
  topologySpreadConstraints: {{ toYaml $v.topologySpreadConstraints | nindent 4 }}
  {{- else if ne .part "server" }}
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{ include "visage.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  # What the server may take to end, the wait before it, and a reserve.
  terminationGracePeriodSeconds: {{ add (include "visage.grace" .root) 15 }}
  containers:
    - name: visage
      image: {{ include "visage.image" (dict "root" .root "gpu" $gpu) }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve]
      env:
        {{- include "visage.env" . | nindent 8 }}
      ports:
        - {name: grpc, containerPort: {{ $v.service.grpcPort }}}
        - {name: http, containerPort: {{ $v.service.httpPort }}}
      securityContext:
        {{- include "visage.containerSecurity" . | nindent 8 }}
      # Models are loaded and older data brought up to date: that may take minutes.
      startupProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 120
      livenessProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      # Clients go elsewhere before the server stops taking calls.
      lifecycle: {preStop: {sleep: {seconds: 5}}}
      resources:
        {{- $resources := deepCopy .values.resources }}
        {{- if $gpu }}
        {{- $_ := set $resources.limits $v.gpu.resource $v.gpu.count }}
        {{- $_ := set $resources.requests $v.gpu.resource $v.gpu.count }}
        {{- end }}
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/visage}
        {{- include "visage.mounts" . | nindent 8 }}
  volumes:
    {{- include "visage.volumes" (dict "root" .root "configMap" $name) | nindent 4 }}
{{- end -}}

{{/* A claim of a StatefulSet: (dict "root" $ "part" "ingest" "persistence" $p). */}}
{{- define "visage.claim" -}}
- metadata:
    name: data
    labels: {{ include "visage.selector" . | nindent 6 }}
  spec:
    accessModes: {{ toYaml (.persistence.accessModes | default (list "ReadWriteOnce")) | nindent 6 }}
    {{- if kindIs "string" .persistence.storageClassName }}
    storageClassName: {{ .persistence.storageClassName | quote }}
    {{- end }}
    resources: {requests: {storage: {{ .persistence.size }}}}
{{- end -}}
