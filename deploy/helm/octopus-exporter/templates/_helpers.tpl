{{- define "octopus-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 52 characters: a StatefulSet adds the number of the pod and, in a label, a hash of its revision. */}}
{{- define "octopus-exporter.fullname" -}}
{{- $name := include "octopus-exporter.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "octopus-exporter.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "octopus-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "octopus-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "octopus-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "octopus-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "octopus-exporter.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "octopus-exporter.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "octopus-exporter.image" -}}
{{- $image := .Values.image -}}
{{- $registry := .Values.global.imageRegistry | default $image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "octopus-exporter.replicas" -}}
{{- if kindIs "invalid" .Values.replicas -}}
{{- ternary 2 1 (eq .Values.ledger.type "postgresql") -}}
{{- else -}}
{{- int .Values.replicas -}}
{{- end -}}
{{- end -}}

{{/* The ports that the URL of the database names, as a JSON list. */}}
{{- define "octopus-exporter.postgresqlPorts" -}}
{{- $hosts := regexFind "://[^/?]*" .Values.ledger.postgresql.url | splitList "@" | last -}}
{{- $ports := list -}}
{{- range regexFindAll ":[0-9]+(,|$)" $hosts -1 }}{{ $ports = append $ports (trimAll ":," . | int) }}{{ end -}}
{{- $ports | default (list 5432) | uniq | toJson -}}
{{- end -}}

{{/* Where it is kept, if this chart and no Secret of the user has it. */}}
{{- define "octopus-exporter.configName" -}}
{{- include "octopus-exporter.fullname" . }}-config
{{- end -}}

{{/* The configuration as YAML, with the ledger that the values ask for. */}}
{{- define "octopus-exporter.config" -}}
{{- $config := .Values.config -}}
{{- if kindIs "string" $config -}}
  {{- $config = fromYaml $config -}}
  {{- with $config.Error }}{{ fail (printf "config: is not a YAML mapping: %s" .) }}{{ end -}}
{{- end -}}
{{- $config = deepCopy $config -}}
{{- $ledger := $config.ledger | default dict -}}
{{- if eq .Values.ledger.type "postgresql" -}}
  {{- $postgresql := .Values.ledger.postgresql -}}
  {{- if and $ledger.url $postgresql.url -}}
    {{- fail "config.ledger.url: found beside ledger.postgresql.url, expected one of them" -}}
  {{- end -}}
  {{- $ledger = set $ledger "url" (coalesce $postgresql.url $ledger.url | required "ledger.postgresql.url: missing, expected a URL such as postgresql://octopus@postgres.example:5432/octopus") -}}
  {{- if $postgresql.existingSecret -}}
    {{- $ledger = set $ledger "password_file" "ledger-password" -}}
  {{- end -}}
  {{- $config = set $config "ledger" $ledger -}}
{{- else if hasPrefix "postgres" ($ledger.url | default "") -}}
  {{- fail "config.ledger.url: found PostgreSQL with ledger.type sqlite; set ledger.type to postgresql, and ledger.postgresql.url" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
