// Alerts, the rules that make them, the channels they go by, and every message on its way.
import { useMutation, useQuery, useQueryClient } from '@tanstack/vue-query'
import { computed, type MaybeRefOrGetter, toValue } from 'vue'

import { api, got, type Schema } from '@/api/client'

import { useCursor } from './useCursor'
import { useSession } from './useSession'

export type Alert = Schema<'AlertView'>
export type Rule = Schema<'RuleView'>
export type RuleWish = Schema<'RuleWish'>
export type Channel = Schema<'ChannelView'>
export type ChannelWish = Schema<'ChannelWish'>
export type Options = ChannelWish['options']
export type Kind = Options['kind']
export type Delivery = Schema<'DeliveryView'>
export const KINDS: Kind[] = ['webhook', 'smtp', 'mqtt', 'wecom', 'dingtalk', 'feishu']
/** Channels that can carry a picture. */
export const PICTURED: Kind[] = ['webhook', 'smtp', 'mqtt', 'wecom']

export interface AlertFilter {
  site?: string
  camera?: string
  kind?: Alert['kind']
  state?: Alert['state']
  going?: boolean
}
export interface DeliveryFilter {
  channel?: string
  state?: Delivery['state']
  what?: Delivery['what']
}

export function useAlerts(filter: MaybeRefOrGetter<AlertFilter>) {
  return useCursor<Alert>(
    computed(() => ['alerts', 'list', toValue(filter)]),
    (cursor, limit) => got(api.GET('/v1/alerts', { params: { query: { ...toValue(filter), cursor, limit } } })),
  )
}

/** One with what became of its messages. */
export function useAlert(id: MaybeRefOrGetter<string>) {
  return useQuery({
    queryKey: computed(() => ['alerts', 'one', toValue(id)]),
    queryFn: () => got(api.GET('/v1/alerts/{id}', { params: { path: { id: toValue(id) } } })),
    enabled: computed(() => !!toValue(id)),
  })
}

export function useAcknowledge() {
  const queries = useQueryClient()
  return useMutation({
    mutationFn: (id: string) => got(api.POST('/v1/alerts/{id}/acknowledge', { params: { path: { id } } })),
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ['alerts'] }), queries.invalidateQueries({ queryKey: ['episodes'] })]),
  })
}

export function useRules() {
  const session = useSession()
  const queries = useQueryClient()
  const anew = (): Promise<void> => queries.invalidateQueries({ queryKey: ['rules'] })
  const list = useQuery({
    queryKey: ['rules'],
    queryFn: () => got(api.GET('/v1/alert-rules')),
    enabled: computed(() => session.may('compliance.edit')),
  })
  const save = useMutation({
    mutationFn: ({ id, wish }: { id?: string; wish: RuleWish }) =>
      id
        ? got(api.PUT('/v1/alert-rules/{id}', { params: { path: { id } }, body: wish }))
        : got(api.POST('/v1/alert-rules', { body: wish })),
    onSettled: anew,
  })
  const remove = useMutation({
    mutationFn: (id: string) => got(api.DELETE('/v1/alert-rules/{id}', { params: { path: { id } } })),
    onSettled: anew,
  })
  return { ...list, rules: computed<Rule[]>(() => list.data.value ?? []), save, remove }
}

export function useChannels() {
  const session = useSession()
  const queries = useQueryClient()
  const anew = (): Promise<void> => queries.invalidateQueries({ queryKey: ['channels'] })
  const list = useQuery({
    queryKey: ['channels'],
    queryFn: () => got(api.GET('/v1/channels')),
    enabled: computed(() => session.may('compliance.edit')),
  })
  const save = useMutation({
    mutationFn: ({ id, wish }: { id?: string; wish: ChannelWish }) =>
      id
        ? got(api.PUT('/v1/channels/{id}', { params: { path: { id } }, body: wish }))
        : got(api.POST('/v1/channels', { body: wish })),
    onSettled: anew,
  })
  const remove = useMutation({
    mutationFn: (id: string) => got(api.DELETE('/v1/channels/{id}', { params: { path: { id } } })),
    onSettled: anew,
  })
  const test = useMutation({
    mutationFn: (id: string) => got(api.POST('/v1/channels/{id}/test', { params: { path: { id } } })),
    onSettled: () => queries.invalidateQueries({ queryKey: ['deliveries'] }),
  })
  const channels = computed<Channel[]>(() => list.data.value ?? [])
  return { ...list, channels, save, remove, test }
}

export function useDeliveries(filter: MaybeRefOrGetter<DeliveryFilter>) {
  const queries = useQueryClient()
  const list = useCursor<Delivery>(
    computed(() => ['deliveries', 'list', toValue(filter)]),
    (cursor, limit) => got(api.GET('/v1/deliveries', { params: { query: { ...toValue(filter), cursor, limit } } })),
  )
  const send = useMutation({
    mutationFn: (id: string) => got(api.POST('/v1/deliveries/{id}/again', { params: { path: { id } } })),
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ['deliveries'] }), queries.invalidateQueries({ queryKey: ['alerts'] })]),
  })
  return { ...list, send }
}

/** One message with every attempt. */
export function useDelivery(id: MaybeRefOrGetter<string>) {
  return useQuery({
    queryKey: computed(() => ['deliveries', 'one', toValue(id)]),
    queryFn: () => got(api.GET('/v1/deliveries/{id}', { params: { path: { id: toValue(id) } } })),
    enabled: computed(() => !!toValue(id)),
  })
}
