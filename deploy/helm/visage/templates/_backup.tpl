{{/* A pod that writes a backup beside the running server: (dict "root" $ "file" "daily.tgz" "configMap" name). */}}
{{- define "visage.backupPod" -}}
{{- include "visage.podBasics" .root }}
restartPolicy: Never
{{ include "visage.besideServer" .root }}
containers:
  - {{ include "visage.backupContainer" . | nindent 4 | trim }}
volumes:
  {{- include "visage.backupVolumes" . | nindent 2 }}
{{- end -}}

{{/* The data folder is on a volume of one node, so whoever reads it must be there. */}}
{{- define "visage.besideServer" -}}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{ include "visage.selector" (dict "root" . "part" "server") | nindent 12 }}
{{- end -}}

{{- define "visage.backupContainer" -}}
name: backup
image: {{ include "visage.image" (dict "root" .root "gpu" .root.Values.gpu.enabled) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [backup, create, /backups/{{ .file }}]
env:
  {{- include "visage.env" (dict "root" .root "part" "server") | nindent 2 }}
securityContext:
  {{- include "visage.containerSecurity" . | nindent 2 }}
{{ include "visage.smallResources" . }}
volumeMounts:
  - {name: config, mountPath: /etc/visage/visage.toml, subPath: visage.toml, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  - {name: data, mountPath: /var/lib/visage}
  - {name: backups, mountPath: /backups}
  {{- if .root.Values.storageKey.secretName }}
  - {name: key, mountPath: /etc/visage/key, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "visage.backupVolumes" -}}
{{- $v := .root.Values -}}
- name: config
  configMap: {name: {{ .configMap }}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
- name: data
  persistentVolumeClaim: {claimName: data-{{ include "visage.fullname" .root }}-0}
- name: backups
  persistentVolumeClaim: {claimName: {{ include "visage.backupClaim" .root }}}
{{- if $v.storageKey.secretName }}
{{ include "visage.secretVolume" (dict "volume" "key" "secret" $v.storageKey.secretName "key" $v.storageKey.key "file" "visage.key") }}
{{- end }}
{{- end -}}

{{- define "visage.backupClaim" -}}
{{ .Values.backup.claim | default (printf "%s-backup" (include "visage.fullname" .)) }}
{{- end -}}

{{/* Of commands that end soon. */}}
{{- define "visage.smallResources" -}}
resources:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {cpu: "1", memory: 512Mi}
{{- end -}}
