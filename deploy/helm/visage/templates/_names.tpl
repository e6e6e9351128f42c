{{/* Names, labels and references to images. */}}

{{- define "visage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is appended: names of CronJobs may have 52 characters. */}}
{{- define "visage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 32 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "visage.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | replace "." "-" | trunc 32 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of a part: (dict "root" $ "part" "ingest"). */}}
{{- define "visage.partname" -}}
{{- $full := include "visage.fullname" .root -}}
{{- ternary $full (printf "%s-%s" $full .part) (eq .part "server") -}}
{{- end -}}

{{- define "visage.selector" -}}
app.kubernetes.io/name: {{ include "visage.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "visage.labels" -}}
{{ include "visage.selector" . }}
app.kubernetes.io/part-of: visage
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The image: (dict "root" $ "gpu" true). */}}
{{- define "visage.image" -}}
{{- $image := .root.Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{ $image.repository }}:{{ $tag }}{{ if and .gpu (not $image.tag) }}-cuda{{ end }}
{{- end -}}
{{- end -}}

{{- define "visage.serviceAccountName" -}}
{{- $own := .Values.serviceAccount -}}
{{- ternary ($own.name | default (include "visage.fullname" .)) ($own.name | default "default") $own.create -}}
{{- end -}}

{{/* The name of the Secret with certificate and key; empty: no TLS. */}}
{{- define "visage.tlsSecret" -}}
{{- if .Values.tls.certificate.enabled -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "visage.fullname" .)) }}
{{- else -}}
{{ .Values.tls.secretName }}
{{- end -}}
{{- end -}}

{{/* Where clients inside the cluster find gRPC. */}}
{{- define "visage.host" -}}
{{ include "visage.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* Parts of Visage itself: a list, separated by spaces. */}}
{{- define "visage.parts" -}}
{{ ternary "server" "ingest api" (eq .Values.mode "embedded") }}
{{- end -}}

{{/* Whether a part runs cameras and networks on a card: "true" or "". */}}
{{- define "visage.gpu" -}}
{{- if and .root.Values.gpu.enabled (ne .part "api") -}}true{{- end -}}
{{- end -}}
