// Colours of several series in one chart: told apart from each other, and from the page, in either theme.
export const SERIES = ['#0f9d8a', '#5b7be3', '#d9822b', '#b0549b', '#7a8b2f', '#c0504d', '#3b8fc2', '#8d6e63']
